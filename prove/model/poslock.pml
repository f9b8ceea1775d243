/*
 * The close of one position by several bots, as spin sees it: every order of their steps, every crash.
 *
 * Modelled: the lock's record and the transitions acquire (or break) and release, each atomic because it is made under
 * the OS lock; check() in its two steps, and the gaps after it; the ledger's writes under the fencing token; the close
 * open -> intent -> sending -> filled -> booked; a venue that takes a request late or never, denies an order that it
 * has, fills in parts, and holds a stop-loss that fires by itself.
 *
 * Time has no numbers. A lease ends whenever `fate` says so, or not at all, which stands for every way of renewing it.
 * A request cannot be taken any more once its receive window has ended, and that ends with the sender's lease at the
 * latest (it is signed for what is left of it). Paused is a process that is not scheduled for a while.
 *
 * Each macro named in capitals below breaks one rule; the comment there says what spin finds then.
 *
 * -DN=, -DCRASHES=, -DEXPIRIES=, -DMISHAPS= bound the search; -DPROGRESS is for the formulas at the end.
 */

#ifndef N
#define N 2
#endif
#ifndef CRASHES
#define CRASHES 1   /* processes that die, or stop for ever; less than N, so that one is left */
#endif
#ifndef EXPIRIES
#define EXPIRIES 1  /* leases that end in the hands of a process that goes on afterwards */
#endif
#ifndef MISHAPS
#define MISHAPS 1   /* requests lost on the way, wrong answers, closes given up for now */
#endif

#define SIZE 2      /* contracts of the position */
#define IDS  4      /* client order ids 1 .. IDS - 1 */

/* Of a process. */
#define UP      0
#define DEAD    1   /* its presence is free: everybody sees that at once */
#define STOPPED 2   /* for ever; its presence is still locked, so only the lease tells */

/* Steps in the ledger. */
#define OPEN    0
#define INTENT  1
#define SENDING 2
#define FILLED  3
#define BOOKED  4

/* Of an order at the venue. */
#define NONE    0
#define DENIED  1   /* taken, but the venue still answers that there is no such order */
#define RESTING 2
#define ENDED   3

/* Of the receive window of a process's latest request. */
#define CLOSED  0
#define SIGNED  1   /* not sent yet */
#define SENT    2

/* The lock's record. */
bool held;
byte holder;
byte token;

/* Processes, and what is theirs. */
byte state[N];
bool finished[N];
bool ended[N];      /* the lease of its latest grant */
byte window[N];
byte request[N];    /* client order id of its request on the way to the venue, 0 if none */
byte amount[N];     /* contracts that it is for */

/* The ledger: one position, one close, its latest attempt. */
byte step;
byte highest;       /* token */
byte attempt;       /* number, and thereby client order id */
byte signer;        /* whose receive window was written with it */
byte bookings;

/* The venue. */
short contracts = SIZE;
byte fills;         /* contracts of all fills */
bool stop = true;   /* a stop-loss rests */
byte order[IDS];
byte ordered[IDS];  /* contracts of the order that are not filled yet */
bool touched[IDS];  /* some were */

/* What may still go wrong. */
byte crashes = CRASHES;
byte expiries = EXPIRIES;
byte mishaps = MISHAPS;
#ifdef LEASE_OF_CONTENDER
bool impatient;     /* the lease that a contender would have chosen is over */
#endif

#define MINE          (held && holder == me && token == mine)
#define VISIBLE(id)   (order[id] >= RESTING)
#define MAY_COME(p)   (request[p] != 0 && order[request[p]] == NONE)

/* verdict(): who may have the lock? */
#if defined(OS_LOCK_ONLY)
/* Who holds is who holds an OS lock, which only its end takes from a process. One stops for ever while it holds; the
   others wait for ever: the formulas fail. */
#define ADMITS        (!held || state[holder] == DEAD)
#elif defined(LEASE_OF_CONTENDER)
/* A contender with a shorter lease breaks by that. A checks: the record is A's; B breaks the lock; A looks at its own
   clock, which has time left, and check() returns to one who does not hold. */
#define ADMITS        (!held || state[holder] == DEAD || ended[holder] || impatient)
#else
#define ADMITS        (!held || state[holder] == DEAD || ended[holder])
#endif

inline end_lease(p)
{
	/* No request outlives the lock under which it was signed. */
	ended[p] = true;
	window[p] = CLOSED;
	request[p] = 0;
	amount[p] = 0
}

inline grant()
{
	broke = held;
	token = mine;
	held = true;
	holder = me;
	ended[me] = false;
#ifdef LEASE_OF_CONTENDER
	impatient = false;
#endif
	assert(mine > highest);
	printf("bot %d: granted with token %d\n", me, mine)
}

inline acquire()
{
#ifdef NO_SECOND_READ
	/* The contender believes what it saw before it had the OS lock. A and B both see a free lock; B is granted it and
	   writes; A writes over that. B had read its record in check() before, and passes it although A holds. */
	atomic { ADMITS -> mine = token + 1; printf("bot %d: sees that it may have the lock\n", me) };
	atomic { grant() }
#else
	atomic { ADMITS -> mine = token + 1; grant() }
#endif
}

inline release()
{
	atomic {
		if
		:: MINE -> held = false; printf("bot %d: releases\n", me)
		:: else -> skip
		fi;
		/* Values that nobody looks at any more: equal states are to look equal. */
		ended[me] = false; mine = 0; broke = false; number = 0; who = 0; size = 0; over = false
	}
}

/* check(), or go to `lost`. The first look at the clock only saves the read, so it counts as one with it. */
inline check()
{
	atomic {
		if
		:: MINE && !ended[me] -> skip
		:: else -> printf("bot %d: has lost the lock\n", me); goto lost
		fi
	};
	atomic {
#ifdef NO_LAST_LOOK
		/* Nothing after the record was read. A reads its record and is paused; its lease ends; B takes over; A's
		   check() returns. */
#else
		if
		:: !ended[me] -> skip
		:: else -> printf("bot %d: has lost the lock, by its clock\n", me); goto lost
		fi;
#endif
		/* Of all processes at most this one passes check() now. */
		printf("bot %d: check() passes\n", me);
		assert(MINE)
	}
}

/* Before every write: the fence, and the step that the writer believes. */
inline fence(believed)
{
	if
#ifdef NO_FENCE
	/* The ledger takes any token. That alone breaks the order of writes. What comes of it (with -DHARM, which does not
	   look at the order): A signs a request, and is paused before it journals that; its lease ends; B takes over,
	   journals its own request under the same id, sends it, and A's late write says over it that the window has ended.
	   B dies. A takes over, finds no order, and reads that none can come any more. The stop-loss fires, A books the
	   close, and B's order is still on its way. */
	:: !(believed) -> printf("bot %d: not at that step\n", me); goto lost
#else
	:: mine < highest || !(believed) -> printf("bot %d: refused by the ledger\n", me); goto lost
#endif
	:: else -> skip
	fi;
#ifndef HARM
	assert(mine >= highest);
#endif
	highest = mine
}

/* Journal that an order may be out from now on. */
inline journal()
{
	check();
	atomic {
		fence(step == INTENT || step == SENDING);
		step = SENDING; attempt = number; signer = me;
		printf("bot %d: journals order %d\n", me, number)
	}
}

/* Refused if it comes too late: by then the window is closed. */
inline send()
{
	check();
	atomic {
		if
		:: window[me] == SIGNED ->
			window[me] = SENT; request[me] = number; amount[me] = size;
			printf("bot %d: sends order %d for %d\n", me, number, size)
		:: else -> printf("bot %d: order %d comes too late\n", me, number)
		fi;
		size = 0
	}
}

/* When the order is believed not to come any more. */
#if defined(ASK_ONCE)
/* At the first answer "no such order". A sends, gets no answer, and asks too early; the stop-loss fires; A books; its
   order is still on its way. */
#define ABSENT (!VISIBLE(number))
#elif defined(NO_GRACE)
/* When the receive window is over, not counting the time for which the venue may deny what it has. It has taken the
   order and denies it; the stop-loss fires; the close is booked, for the order is not in the list either; it rests. */
#define ABSENT (!VISIBLE(number) && window[who] == CLOSED)
#else
#define ABSENT (order[number] == NONE && window[who] == CLOSED)
#endif

proctype bot(byte me)
{
	byte mine;      /* token */
	bool broke;     /* the lock was taken over */
	byte number;    /* of the latest attempt, 0 if none */
	byte who;       /* signed it */
	bool over;      /* that order has ended */
	byte size;

	{
	skip;           /* spin wants no label here */
again:
	if
	:: step == BOOKED -> goto done  /* "already closed" */
	:: else -> skip
	fi;
	acquire();
	if
	:: step == BOOKED -> goto lost
	:: else -> skip
	fi;
	if
	:: atomic {
		broke ->  /* write down whose lock was broken: late writes of its holder are refused from here on */
		broke = false;
		fence(true)
	   }
	:: else -> skip
	fi;
	if
	:: atomic { step == OPEN -> skip };
		check();
		atomic { fence(step == OPEN); step = INTENT; printf("bot %d: journals the intent\n", me) };
		goto look
	:: step == INTENT -> goto look
	:: atomic { step == SENDING -> number = attempt; who = signer; printf("bot %d: finds order %d in the ledger\n", me, number) };
		goto find
	:: step == FILLED -> goto sweep
	:: step == BOOKED -> goto lost
	fi;

find:   /* Ask for an order that may have been sent, until it can no longer come. */
#ifdef BLIND_RESEND
	/* Nobody is asked; what is left goes out under a new id. A sends and gets no answer; the stop-loss fires; nothing is
	   left, so A books; its order is still on its way. */
	atomic { over = true; goto look };
#endif
	do
	:: atomic { VISIBLE(number) -> who = 0; goto follow }
	:: atomic { ABSENT -> who = 0; break }
	:: atomic { !VISIBLE(number) && mishaps > 0 -> mishaps--; printf("bot %d: gives up for now\n", me); goto lost }
	:: !VISIBLE(number) && !ABSENT -> skip  /* and ask again */
	od;
	goto look;

follow: /* To the end of an order. */
	do
	:: atomic { order[number] == ENDED -> over = true; break }
	:: atomic { order[number] != ENDED && mishaps > 0 -> mishaps--; printf("bot %d: gives up for now\n", me); goto lost }
	:: order[number] != ENDED -> skip
	od;

look:   /* Is anything left? */
	if
	:: atomic { contracts > 0 -> size = contracts }
	:: contracts <= 0
	:: atomic { mishaps > 0 && contracts > 0 -> mishaps--; printf("bot %d: reads that nothing is held, wrongly\n", me) }
	fi;
	if
#ifdef NO_PROOF
	/* "Nothing held" is believed. The venue says so too early; the close is journaled as filled with contracts left. */
	:: size == 0 -> goto flat
#else
	:: size == 0 && fills >= SIZE -> goto flat
	:: size == 0 && fills < SIZE -> goto look
#endif
	:: size > 0 -> skip
	fi;

	/* An order that the venue never had goes out again under its id; one that has ended is followed by the next. */
	atomic {
		if
		:: over || number == 0 -> number++; over = false
		:: else -> skip
		fi;
		number < IDS
	};
	check();
	atomic { window[me] = (ended[me] -> CLOSED : SIGNED); request[me] = 0; amount[me] = 0 };
#ifdef NO_JOURNAL_BEFORE_SEND
	/* A sends and dies before it journals that. B reads `intent`: nobody has sent. The stop-loss fires; B books; A's
	   order is still on its way. */
	send();
	journal();
#else
	journal();
	send();
#endif
	if
	:: order[number] != NONE -> goto follow  /* the answer */
	:: order[number] == NONE && request[me] == 0 -> goto look  /* refused, and it has none under this id */
	:: atomic { who = me }; goto find  /* no answer */
	fi;

flat:   /* The fills prove it. */
	check();
	atomic {
		fence(step == INTENT || step == SENDING);
		step = FILLED; number = 0; over = false;
		printf("bot %d: journals that it is filled\n", me)
	};

sweep:  /* Until a read shows nothing. */
	do
	:: atomic { stop || order[1] == RESTING || order[2] == RESTING || order[3] == RESTING -> skip };
		if
		:: contracts == 0 -> skip
		:: atomic { contracts != 0 -> goto lost }  /* unsettled: what rests may protect that */
		fi;
		check();
		if
		:: atomic {
			stop = false;
			size = 1;
			do
			:: size < IDS ->
				if
				:: order[size] == RESTING -> order[size] = ENDED
				:: else -> skip
				fi;
				size++
			:: else -> break
			od;
			size = 0;
			printf("bot %d: cancels what rests\n", me)
		   }
		:: atomic { mishaps > 0 -> mishaps--; printf("bot %d: its cancel is lost\n", me) }
		fi;
#ifdef NO_SWEEP_REREAD
		/* The cancels are believed. One is lost; the close is booked; the stop-loss rests. */
		break
#endif
	:: atomic { !stop && order[1] != RESTING && order[2] != RESTING && order[3] != RESTING -> break }
	od;
	check();
	atomic { fence(step == FILLED); step = BOOKED; bookings++; printf("bot %d: books\n", me) };

lost:   /* The lock, or the lock is of no more use. The bot tries again until the position is closed. */
	release();
	goto again;
done:
	atomic { finished[me] = true; printf("bot %d: it is closed\n", me) }
	} unless { state[me] != UP }
}

#define ENDS(id)  (order[id] == RESTING && (touched[id] || contracts == 0))
#ifdef NO_REDUCE_ONLY
/* An order takes what it is for, whatever is left. One for the whole position is on its way; the stop-loss fires; the
   order turns the position around. */
#define FILLS(id) (order[id] >= DENIED && order[id] <= RESTING && ordered[id] > 0)
#else
#define FILLS(id) (order[id] >= DENIED && order[id] <= RESTING && ordered[id] > 0 && contracts > 0)
#endif

inline arrive(p)
{
	/* One whose id the venue has is refused, and one that finds nothing to reduce may be. */
	if
	:: order[request[p]] == NONE ->
		order[request[p]] = DENIED; ordered[request[p]] = amount[p];
		printf("venue: takes order %d of bot %d\n", request[p], p)
	:: order[request[p]] != NONE || contracts == 0 -> printf("venue: refuses order %d of bot %d\n", request[p], p)
	fi;
	request[p] = 0; amount[p] = 0
}

inline fill(id)
{
	contracts--; fills++; ordered[id]--; touched[id] = true;
	printf("venue: fills a contract of order %d\n", id)
}

inline end_order(id)
{
	order[id] = ENDED; ordered[id] = 0; touched[id] = false;
	printf("venue: order %d has ended\n", id)
}

inline close_window(p)
{
	window[p] = CLOSED; request[p] = 0; amount[p] = 0;
	printf("time: the receive window of bot %d has ended\n", p)
}

inline end_lease_of_stopped()
{
	end_lease(holder);
	printf("time: the lease of bot %d has ended, which is stopped\n", holder)
}

/* A window that somebody still needs to be open ends by mishap; any other one simply does. */
#define IS_OVER(p) (request[p] == 0 && (window[p] == SENT || (window[p] == SIGNED && state[p] != UP)))
#define IS_LOST(p) (mishaps > 0 && (request[p] != 0 || (window[p] == SIGNED && state[p] == UP)))

/* What must happen at last: the venue goes on, windows end, and so does the lease of a process that never goes on. */
active proctype world()
{
end:
	do
	:: atomic { request[0] != 0 -> arrive(0) }
	:: atomic { request[1] != 0 -> arrive(1) }
	:: atomic { order[1] == DENIED -> order[1] = RESTING }
	:: atomic { order[2] == DENIED -> order[2] = RESTING }
	:: atomic { order[3] == DENIED -> order[3] = RESTING }
	:: atomic { FILLS(1) -> fill(1) }
	:: atomic { FILLS(2) -> fill(2) }
	:: atomic { FILLS(3) -> fill(3) }
	:: atomic { ENDS(1) -> end_order(1) }
	:: atomic { ENDS(2) -> end_order(2) }
	:: atomic { ENDS(3) -> end_order(3) }
	:: atomic { IS_OVER(0) -> close_window(0) }
	:: atomic { IS_OVER(1) -> close_window(1) }
#if N > 2
	:: atomic { request[2] != 0 -> arrive(2) }
	:: atomic { IS_OVER(2) -> close_window(2) }
#endif
	:: atomic { held && state[holder] == STOPPED && !ended[holder] -> end_lease_of_stopped() }
	od
}

inline strike(p)
{
	crashes--;
	if
	:: state[p] = DEAD; printf("fate: bot %d dies\n", p)
	:: state[p] = STOPPED; printf("fate: bot %d stops for ever\n", p)
	fi
}

/* What may happen, or never. */
active proctype fate()
{
end:
	do
	:: atomic { crashes > 0 && state[0] == UP && !finished[0] -> strike(0) }
	:: atomic { crashes > 0 && state[1] == UP && !finished[1] -> strike(1) }
	:: atomic { mishaps > 0 && IS_LOST(0) -> mishaps--; close_window(0) }
	:: atomic { mishaps > 0 && IS_LOST(1) -> mishaps--; close_window(1) }
#if N > 2
	:: atomic { crashes > 0 && state[2] == UP && !finished[2] -> strike(2) }
	:: atomic { mishaps > 0 && IS_LOST(2) -> mishaps--; close_window(2) }
#endif
	:: atomic {
		expiries > 0 && held && state[holder] == UP && !ended[holder] ->
		expiries--; end_lease(holder);
		printf("time: the lease of bot %d has ended\n", holder)
	   }
#ifdef LEASE_OF_CONTENDER
	:: atomic {
		expiries > 0 && held && state[holder] == UP && !ended[holder] ->
		expiries--; impatient = true;
		printf("time: a contender's own, shorter lease has ended\n")
	   }
#endif
	/* The stop-loss, for the whole or for a part. */
	:: atomic { stop && contracts > 0 -> stop = false; fills = fills + contracts; contracts = 0; printf("venue: the stop-loss fires\n") }
	:: atomic { stop && contracts > 1 -> stop = false; fills++; contracts--; printf("venue: the stop-loss fires, for one\n") }
#ifdef PROGRESS
	/* Nothing of this has to happen, however long we wait. */
	:: break
#endif
	od
}

#ifndef PROGRESS
#if N > 2
#define ANY_MAY_COME (MAY_COME(0) || MAY_COME(1) || MAY_COME(2))
#else
#define ANY_MAY_COME (MAY_COME(0) || MAY_COME(1))
#endif

/* What must be true in every state. What check() and the ledger promise is asserted where they are modelled. */
active proctype watch()
{
end:
	do
	:: atomic { bookings > 1 -> printf("broken: booked twice\n"); assert(false) }
	:: atomic { contracts < 0 || fills > SIZE -> printf("broken: the position is turned around\n"); assert(false) }
	:: atomic { step >= FILLED && (contracts != 0 || fills != SIZE) -> printf("broken: filled, and not flat\n"); assert(false) }
	:: atomic { step == BOOKED && ANY_MAY_COME -> printf("broken: booked, and an order may come\n"); assert(false) }
	:: atomic {
		step == BOOKED && (stop || order[1] % ENDED || order[2] % ENDED || order[3] % ENDED) ->
		printf("broken: booked, and an order rests\n"); assert(false)
	   }
	od
}
#endif

init
{
	atomic {
		run bot(0);
		run bot(1);
#if N > 2
		run bot(2);
#endif
	}
}

#ifdef PROGRESS
#define LEFT(p) (finished[p] || state[p] != UP)
#if N > 2
#define ALL_LEFT (LEFT(0) && LEFT(1) && LEFT(2))
#else
#define ALL_LEFT (LEFT(0) && LEFT(1))
#endif

/* If every process that is able to go on does so, and the venue too. */
ltl closes { <> (step == BOOKED) }
ltl leaves { <> ALL_LEFT }
#endif
