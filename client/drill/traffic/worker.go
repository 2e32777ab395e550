package traffic

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"dems"
	"dems/client/drill/history"
)

const (
	shortestBackoff = 10 * time.Millisecond // after an operation that was not answered
	longestBackoff  = 500 * time.Millisecond
	// mostBehind is how far operations may be behind their rate before it is given up to catch up: after an outage they must
	// not come all at once.
	mostBehind = 100 * time.Millisecond
	// repeatOf: one of so many mutations is sent again after it was answered, as clients do that have not heard the answer.
	repeatOf = 16
)

// until says how long things are done: nothing begins, or is asked for again, after begin has ended. What is under way then may
// take until calls ends.
type until struct{ begin, calls context.Context }

// pace spreads what begins evenly over time.
type pace struct {
	interval time.Duration // 0: no pace

	lock sync.Mutex
	next time.Time
}

// wait waits until the next operation may begin. It returns false where ctx ended first.
func (p *pace) wait(ctx context.Context) bool {
	if p.interval == 0 {
		return ctx.Err() == nil
	}
	now := time.Now()
	p.lock.Lock()
	start := p.next
	if earliest := now.Add(-mostBehind); start.Before(earliest) {
		start = earliest
	}
	p.next = start.Add(p.interval)
	p.lock.Unlock()
	if !start.After(now) {
		return ctx.Err() == nil
	}
	return pause(ctx, start.Sub(now))
}

// pause returns false where ctx ended first.
func pause(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// worker is one client, which waits for one answer at a time. It is used by one goroutine at a time.
type worker struct {
	*Traffic
	number  int
	random  *rand.Rand
	keys    uint64
	backoff time.Duration
}

// key returns an idempotency key that nobody else uses.
func (w *worker) key() string {
	w.keys++
	return w.prefix + "-" + strconv.Itoa(w.number) + "-" + strconv.FormatUint(w.keys, 10)
}

// perform asks for an operation until its outcome is known. Where that is not known in time the operation is left to its group.
// The error is history.ErrFull: nothing was sent.
func (w *worker) perform(u until, g *group, command dems.Command) (*task, error) {
	if command.Op.Mutates() {
		command.Key = w.key()
	}
	pending, err := w.config.Recorder.Begin(g.number, w.number, command)
	if err != nil {
		return nil, err
	}
	w.counts.tried.Add(1)
	t := &task{group: g, command: command, pending: pending}
	w.pursue(u, t)
	if t.verdict == answered && command.Op.Mutates() && w.random.IntN(repeatOf) == 0 {
		w.repeat(u, t)
	}
	return t, nil
}

// pursue asks for an operation, again and again, until its outcome is known.
func (w *worker) pursue(u until, t *task) {
	for {
		w.ask(u.calls, t)
		w.rest(u.begin, t.verdict == answered)
		if t.verdict != lost {
			return
		}
		if t.hopeless() || u.begin.Err() != nil {
			t.group.leave(t)
			return
		}
	}
}

// repeat sends an answered operation again under its key: it must be answered as it was, whatever happened since.
func (w *worker) repeat(u until, t *task) {
	r := exchange(u.calls, w.config.API, &t.command)
	if r.strange != "" {
		w.findings.add(strangeAnswer, t, "asked again: %s", r.strange)
	}
	if r.verdict == answered && !sameAnswer(&r.result, &t.result) {
		w.findings.add(doubleApplied, t, "answered %s, and when asked again under its key %s", describe(t, &t.result), describe(t, &r.result))
	}
}

// rest pauses after what was not answered, longer each time.
func (w *worker) rest(ctx context.Context, wasAnswered bool) {
	if wasAnswered {
		w.backoff = 0
		return
	}
	w.backoff = min(max(2*w.backoff, shortestBackoff), longestBackoff)
	pause(ctx, w.backoff)
}

// read makes a final read until it is answered. Where the history is full it is made without being recorded.
func (w *worker) read(u until, g *group, command dems.Command) {
	for attempt := 0; u.begin.Err() == nil && attempt < mostStrange; {
		t, err := w.perform(u, g, command)
		if errors.Is(err, history.ErrFull) {
			w.addNote("The history is full: the last reads were made, but are not in it.")
			t = &task{group: g, command: command}
			w.pursue(u, t)
		}
		if g.note(t) {
			return
		}
		if t.verdict == answered { // a refusal that a final read cannot get
			w.findings.add(strangeAnswer, t, "answered %s", describe(t, &t.result))
		}
		if t.verdict == answered || t.strange > 0 {
			attempt++
		}
	}
}

// remove removes an event with its bookings.
func (w *worker) remove(ctx context.Context, g *group, event dems.EventKey) error {
	for attempt := 1; ; attempt++ {
		api := w.config.API.As(dems.UserID{City: event.ID.City, Role: dems.Manager, Number: 1})
		_, err := api.RemoveEvent(ctx, event, dems.CancelBookings)
		switch code := dems.CodeOf(err); {
		case code == dems.OK || code == dems.EventNotFound:
			g.disown(event)
			w.backoff = 0
			return nil
		case code != dems.Unavailable && code != dems.Indeterminate && attempt >= mostStrange || ctx.Err() != nil:
			return err
		}
		w.rest(ctx, false)
	}
}
