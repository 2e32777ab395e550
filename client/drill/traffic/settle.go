package traffic

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"dems"
)

// ask asks for an operation once and records what came.
func (t *Traffic) ask(ctx context.Context, k *task) {
	r := exchange(ctx, t.config.API, &k.command)
	if r.strange != "" {
		k.strange++
		t.findings.add(strangeAnswer, k, "%s", r.strange)
	}
	before := k.verdict
	switch {
	case r.verdict == answered:
		t.inspect(k, &r.result)
		k.verdict, k.result = answered, k.group.cut(r.result)
	case r.verdict == failed && before == open:
		k.verdict = failed // a later attempt that failed would say nothing of an earlier one
	default:
		k.verdict = lost
	}
	if k.pending == nil {
		return
	}
	switch k.verdict {
	case answered:
		k.pending.Answer(k.result)
	case failed:
		k.pending.Fail(r.err)
	default:
		k.pending.Lose(r.err)
	}
	t.counts.count(k, before)
}

// Settle asks again for what is unknown, under the same keys, and reads the last state of everything. It may be called when Run
// has returned, and again where it failed. The error says what could not be done while ctx lasted.
func (t *Traffic) Settle(ctx context.Context) error {
	u, groups := until{ctx, ctx}, t.known()
	t.settleAll(groups, func(w *worker, k *task) {
		k.strange = 0
		w.pursue(u, k)
	})
	readFinally(u, &pace{}, t.workers, groups)
	var unknown, unread int
	for _, g := range groups {
		g.lock.Lock()
		unknown += len(g.unsettled)
		g.lock.Unlock()
		if !t.conclude(g) {
			unread++
		}
	}
	var wrong []error
	if unknown > 0 {
		wrong = append(wrong, fmt.Errorf("traffic: of %d operations it is still unknown whether they were applied", unknown))
	}
	if unread > 0 {
		wrong = append(wrong, fmt.Errorf("traffic: the last state of %d groups of events could not be read", unread))
	}
	return errors.Join(wrong...)
}

// settleAll has the clients do something with every operation of unknown outcome.
func (t *Traffic) settleAll(groups []*group, settle func(w *worker, k *task)) {
	var left []*task
	for _, g := range groups {
		left = append(left, g.take()...)
	}
	var next atomic.Int64
	_ = together(t.workers, func(w *worker) error { // nothing in it fails
		for {
			number := int(next.Add(1)) - 1
			if number >= len(left) {
				return nil
			}
			settle(w, left[number])
		}
	})
}

// Clear removes all events of the traffic with their bookings, as far as it gets while ctx lasts. It may be called whenever Run
// does not run, and again where it failed.
func (t *Traffic) Clear(ctx context.Context) error {
	groups := t.known()
	// What is unknown may be an event that is about to be made, after it was removed here.
	t.settleAll(groups, func(w *worker, k *task) {
		w.ask(ctx, k)
		if k.verdict == lost {
			k.group.leave(k)
		}
	})
	return removeAll(ctx, t.workers, groups)
}

// removeAll has clients remove the events of groups.
func removeAll(ctx context.Context, workers []*worker, groups []*group) error {
	type job struct {
		group *group
		event dems.EventKey
	}
	var jobs []job
	for _, g := range groups {
		for _, event := range g.toRemove() {
			jobs = append(jobs, job{g, event})
		}
	}
	var next, left atomic.Int64
	err := together(workers, func(w *worker) error {
		var last error
		for {
			number := int(next.Add(1)) - 1
			if number >= len(jobs) {
				return last
			}
			if err := w.remove(ctx, jobs[number].group, jobs[number].event); err != nil {
				left.Add(1)
				last = fmt.Errorf("%s: %w", jobs[number].event, err)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("traffic: %d events could not be removed, among them %w", left.Load(), err)
	}
	return nil
}
