package traffic

import (
	"sync"
	"sync/atomic"

	"dems"
)

// crew is clients that work on one group at a time.
type crew struct {
	*Traffic
	workers []*worker
	// pairs are those of a contended crew; nil: it works on unique groups.
	pairs         []pair
	firstCustomer int
	before        int // contended groups so far
}

// together has every client of a crew do something, and waits for all of them. It returns one of the errors.
func together(workers []*worker, work func(w *worker) error) error {
	var (
		working sync.WaitGroup
		failed  atomic.Pointer[error]
	)
	for _, w := range workers {
		working.Go(func() {
			if err := work(w); err != nil {
				failed.Store(&err)
			}
		})
	}
	working.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// contend works on one contended group after the other.
func (c *crew) contend(u until) error {
	rebook := c.calendar.rebook
	for u.begin.Err() == nil {
		moments, ok := c.calendar.span(c.before)
		if !ok {
			c.addNote("The dates are used up: %d clients stopped early.", len(c.workers))
			return nil
		}
		customers := contendedCustomersOf(c.cities, c.firstCustomer, c.before)
		g := newContended(c.newGroup(), c.pairs, moments, customers, c.workers[0].random)
		g.rebook = rebook
		c.before++
		if err := c.fight(u, g); err != nil {
			return err
		}
		if g.disturbed.Load() {
			c.addNote("Group %d saw events of somebody else after its own, to which its bookings may have been moved. Faults that are "+
				"found in it may be none. From then on its clients had no bookings moved.", g.number)
			rebook = false
		}
		if !g.settled() { // what may still be applied would disturb the group that follows
			if u.begin.Err() == nil {
				c.addNote("Group %d has operations of unknown outcome: %d clients stopped early.", g.number, len(c.workers))
			}
			return nil
		}
		c.end(g.group)
		c.retire(u)
	}
	return nil
}

// fight has a contended group's events made and then everything asked for that there is.
func (c *crew) fight(u until, g *contended) error {
	var opened atomic.Int64
	err := together(c.workers, func(w *worker) error {
		for {
			number := int(opened.Add(1)) - 1
			if number >= len(g.events) || !c.pace.wait(u.begin) {
				return nil
			}
			g.begun.Add(1)
			if _, err := w.open(u, g.group, g.opening(g.events[number], w.random)); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	return together(c.workers, func(w *worker) error {
		for g.begun.Add(1) <= int64(c.config.GroupOperations) && c.pace.wait(u.begin) {
			t, err := w.perform(u, g.group, g.next(w.random))
			if err != nil {
				return err
			}
			g.learn(t)
		}
		return nil
	})
}

// open has an event made. It returns false where that is not so, or somebody else was faster.
func (w *worker) open(u until, g *group, command dems.Command) (bool, error) {
	g.making(command.Event)
	t, err := w.perform(u, g, command)
	if err != nil || t.verdict != answered || t.result.Code != dems.OK {
		return false, err
	}
	if t.result.Outcome != dems.Created {
		w.addNote("Somebody else made %s: faults that are found in group %d may be none.", command.Event, g.number)
		g.disown(command.Event)
		return false, nil
	}
	return true, nil
}

// share works on one unique group after the other.
func (c *crew) share(u until) error {
	for u.begin.Err() == nil {
		event, ok := c.calendar.unique()
		if !ok {
			c.addNote("The dates are used up: %d clients stopped early.", len(c.workers))
			return nil
		}
		if !c.pace.wait(u.begin) {
			return nil
		}
		g := newUnique(c.newGroup(), event, int(c.uniques.Add(1))-1)
		opened, err := c.workers[0].open(u, g.group, g.opening(c.workers[0].random))
		if err != nil {
			return err
		}
		if opened {
			if err := c.fill(u, g); err != nil {
				return err
			}
		}
		c.end(g.group)
		c.retire(u)
	}
	return nil
}

// fill has every customer of a unique group book, with reads in between.
func (c *crew) fill(u until, g *unique) error {
	return together(c.workers, func(w *worker) error {
		for {
			command, number, ok := g.choose(w.random)
			if !ok || !c.pace.wait(u.begin) {
				return nil
			}
			if number >= 0 {
				g.sent.Add(1)
			}
			t, err := w.perform(u, g.group, command)
			if err != nil {
				return err
			}
			if number >= 0 {
				g.booked[number] = t
			}
		}
	})
}

// retire reads the last state of the oldest groups and removes their events while there are too many for the end, or for lists.
func (c *crew) retire(u until) {
	for u.begin.Err() == nil {
		g := c.oldest()
		if g == nil {
			return
		}
		readFinally(u, &c.pace, c.workers, []*group{g})
		if !c.conclude(g) {
			c.end(g) // there was no time; it is left to Settle
			return
		}
		if removeAll(u.calls, c.workers, []*group{g}) == nil { // else it is left to Clear
			c.forget(g)
		}
	}
}

// readFinally has clients read the last state of groups, as far as there is time. A group is read by one client, one thing after
// the other: reads of one group at the same time would leave as many orders to try as there are subsets of them.
func readFinally(u until, pace *pace, workers []*worker, groups []*group) {
	var next atomic.Int64
	_ = together(workers, func(w *worker) error { // nothing in it fails
		for {
			number := int(next.Add(1)) - 1
			if number >= len(groups) {
				return nil
			}
			for _, read := range groups[number].finalReads() {
				if !pace.wait(u.begin) {
					return nil
				}
				w.read(u, groups[number], read)
			}
		}
	})
}
