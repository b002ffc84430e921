/*
 * TABS tabs of one browser, which opens POOL connections to one origin and lets everything else wait in
 * a queue, without an error (HTTP/1.1). The job has ended, and every open stream has died without a word,
 * so that only a poll finds out. Is the end shown in every tab?
 *
 * Tabs are alike, so they are counted and not named. Left out: that a stream lives ten minutes at most,
 * which frees its connection in the end (the promise is seconds), and polls that are aborted while they
 * queue, which frees none.
 *
 * The design: one stream for all tabs. A tab that is closed, or shows the end, gives its connections up;
 * if it held the stream, another tab opens one. While a stream is doubted, a spare one is tried.
 * Switch STREAM_PER_TAB: each tab has a stream of its own.
 */
#ifndef TABS
#define TABS 20
#endif
#define POOL 6

byte tabs = TABS;          /* that do not show the end yet */
byte asking = 0;           /* polls in flight, one for each tab at most */
byte streams = 0;
byte spares = 0;           /* second streams, one for each stream at most */
bool closable = true;      /* one tab may be closed in the middle of it */

#define USED (asking + streams + spares)
#ifdef STREAM_PER_TAB
#define STREAMS tabs
#else
#define STREAMS (tabs > 0)
#endif

/* One tab fewer; it may have been one that held a stream. */
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
    :: atomic { spares > 0 -> spares-- }           /* nothing came from it either */
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
