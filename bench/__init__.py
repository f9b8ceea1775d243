"""What poslock costs, measured side by side with other file locks and with bare system calls."""
