/*
 * TABS tabs of one browser, which opens POOL connections to one origin and queues all other requests
 * without an error (HTTP/1.1). The job has ended, and every open stream has died silently, so that only
 * a poll finds out. Is the end shown in every tab?
 *
 * All tabs are alike, so they are only counted. Left out: the end of a stream after at most ten minutes,
 * which frees its connection in the end (but the promise is seconds), and the abort of a queued poll,
 * which frees none.
 *
 * The design: one stream for all tabs. A tab that is closed, or shows the end, gives up its connections;
 * if it held the stream, another tab opens one. While a stream is suspected, a spare one is tried.
 * Switch STREAM_PER_TAB: each tab has its own stream.
 */
#ifndef TABS
#define TABS 20
#endif
#define POOL 6

byte tabs = TABS;          /* tabs that do not show the end yet */
byte asking = 0;           /* polls in flight, at most one per tab */
byte streams = 0;
byte spares = 0;           /* spare streams, at most one per stream */
bool closable = true;      /* one tab may be closed at any time */

#define USED (asking + streams + spares)
#ifdef STREAM_PER_TAB
#define STREAMS tabs
#else
#define STREAMS (tabs > 0)
#endif

/* One tab less; it may have held a stream. */
inline part() {
    tabs--;
    if :: streams > STREAMS -> streams-- :: streams > 0 -> streams-- :: streams <= STREAMS fi;
    if :: spares > streams -> spares-- :: else fi;
    if :: asking > tabs -> asking-- :: else fi
}

active proctype Streams() {
    do
    :: atomic { streams < STREAMS && USED < POOL -> streams++ }
    :: atomic { spares < streams && USED < POOL -> spares++ }
    :: atomic { spares > 0 -> spares-- }           /* it was silent, too */
    od
}

active proctype Polls() {
    do
    :: atomic { asking < tabs && USED < POOL -> asking++ }
    :: atomic { asking > 0 -> asking--; part() }   /* answered: this tab shows the end */
    od
}

active proctype Closing() {
    if :: atomic { closable && tabs > 0 -> closable = false; part() } :: true fi
}

active proctype Tick() {
    bit side;
    do :: side = 1 - side od
}

ltl everywhere { <>[] (tabs == 0 && USED == 0) }
ltl six_at_most { [] (USED <= POOL) }
