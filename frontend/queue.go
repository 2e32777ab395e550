package frontend

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"dems"
)

// queueLimit is how many commands may wait for a batch; beyond it a command is refused as unavailable.
const queueLimit = 8192

// What has become of a command that waits. A waiter whose time is up gives its command up; a batch takes it along if it
// stands at waiting. So a command that was given up while it was waiting is never proposed.
const (
	waiting  int32 = iota
	proposed       // in an attempt whose outcome is open
	givenUp        // nobody waits for it any more
)

// pending is one command on its way through the log.
type pending struct {
	command dems.Command
	probing *node // on whose wrong answer it is to give evidence, in a batch of its own; nil: a client waits for it
	state   atomic.Int32
	exposed atomic.Bool // it may have been applied in an earlier session, whatever becomes of it now
	done    chan answer // holds one
}

type answer struct {
	reply Reply
	err   error
}

// answer gives the waiter its answer. Only the first counts.
func (w *pending) answer(got answer) {
	select {
	case w.done <- got:
	default:
	}
}

// refusal returns the answer to a command that is not proposed any more.
func (w *pending) refusal() answer {
	if w.exposed.Load() {
		return answer{err: &dems.Error{Code: dems.Indeterminate}}
	}
	return answer{err: &dems.Error{Code: dems.Unavailable}}
}

// queue holds the commands that wait for a batch, first come first. Only one goroutine may take.
type queue struct {
	mu     sync.Mutex
	all    []*pending
	probes int           // among all
	filled chan struct{} // told that there is something; holds one
}

// add appends a command; false where too many wait.
func (q *queue) add(waiter *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.all) >= queueLimit {
		return false
	}
	q.all = append(q.all, waiter)
	q.count(waiter, 1)
	q.signal()
	return true
}

// putBack puts commands that were taken, and certainly not applied, before all others, however many wait.
func (q *queue) putBack(waiters []*pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = slices.Concat(waiters, q.all)
	for _, waiter := range waiters {
		q.count(waiter, 1)
	}
	q.signal()
}

// remove removes a command that was given up. One that is not there was taken.
func (q *queue) remove(waiter *pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if at := slices.Index(q.all, waiter); at >= 0 {
		q.all = slices.Delete(q.all, at, at+1)
		q.count(waiter, -1)
	}
}

// count keeps the number of probes. Callers hold mu.
func (q *queue) count(waiter *pending, by int) {
	if waiter.probing != nil {
		q.probes += by
	}
}

// take removes and returns what waits, up to a limit and to the next probe; a probe is taken alone. Nil where nothing waits.
func (q *queue) take(limit int) []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.all) == 0 {
		return nil
	}
	limit = min(limit, len(q.all))
	if q.probes > 0 {
		if at := slices.IndexFunc(q.all[:limit], func(w *pending) bool { return w.probing != nil }); at >= 0 {
			limit = max(at, 1)
		}
		q.count(q.all[0], -1) // a probe stands first only where it is taken
	}
	taken := slices.Clone(q.all[:limit])
	q.all = slices.Delete(q.all, 0, limit)
	return taken
}

// wait waits until something waits to be taken; false when the context ended.
func (q *queue) wait(ctx context.Context) bool {
	for {
		q.mu.Lock()
		empty := len(q.all) == 0
		q.mu.Unlock()
		if !empty {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-q.filled:
		}
	}
}

func (q *queue) signal() {
	select {
	case q.filled <- struct{}{}:
	default:
	}
}
