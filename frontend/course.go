package frontend

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"dems"
)

// attempt is the leader's answer to a proposal.
type attempt struct {
	node  *node
	reply dems.BatchReply
	err   error
}

// course is what the goroutine of one flight knows beside the votes. Only group, attempts and asking are touched by other
// goroutines.
type course struct {
	proposer *proposer
	flight   *flight
	ctx      context.Context
	group    sync.WaitGroup // questions on their way
	attempts chan attempt   // holds one

	asked     *node // to whom an attempt is on its way; nil: none
	stop      context.CancelFunc
	replied   bool        // a leader has applied the batch
	uncertain bool        // an earlier attempt may have been, or may yet be, applied
	resume    time.Time   // no attempt before
	answered  bool        // the waiters have their answers; what follows is the check
	early     dems.Digest // of the results they were given before a majority was known

	mu     sync.Mutex
	asking map[*node]bool // whose results have been asked for
}

// fly proposes a batch until a majority has applied it or its time is up, and answers its waiters. It tells whether the
// session turned out to be lost.
func (p *proposer) fly(ctx context.Context, f *flight) (lost bool) {
	ctx, cancel := context.WithTimeout(ctx, flightTimeout)
	c := &course{proposer: p, flight: f, ctx: ctx, attempts: make(chan attempt, 1), asking: map[*node]bool{}}
	defer c.group.Wait()
	defer cancel()
	impatient := time.NewTicker(patience)
	defer impatient.Stop()
	started, doubted := time.Now(), time.Now()
	for {
		view, changed := p.members.watch()
		counted := f.tally(view)
		if counted.winner != nil {
			p.metrics.decided.Observe(time.Since(started).Seconds())
			return c.conclude(view, counted)
		}
		if p.first && !c.answered {
			c.deliverFirst(view)
		}
		c.ask(counted.missing)
		if counted.split && len(counted.missing) == 0 {
			c.deliverEach(view)
			return false
		}
		if !c.steer(view) {
			return false
		}
		select {
		case <-f.wake:
		case <-changed:
		case got := <-c.attempts:
			c.handle(got)
		case <-impatient.C:
			p.members.refresh()
			c.ask(f.silent(view))
			if c.replied && time.Since(doubted) > doubt {
				doubted, c.replied = time.Now(), false
			}
		case <-ctx.Done():
			c.fail(view, counted)
			return false
		}
	}
}

// steer starts an attempt where one is due: none is on its way, or the leader has changed since. It returns false when
// no command is left to propose, because every waiter took its own back.
func (c *course) steer(v *view) bool {
	if c.replied || v.leader == nil || v.leader == c.asked || time.Now().Before(c.resume) {
		return true
	}
	if c.asked != nil { // the earlier attempt may still succeed
		c.stop()
		<-c.attempts
		c.uncertain = true
	}
	f := c.flight
	if !c.uncertain {
		f.waiters = board(f.waiters)
	}
	if len(f.waiters) == 0 {
		return false
	}
	commands := make([]dems.Command, len(f.waiters))
	for i, waiter := range f.waiters {
		commands[i] = waiter.command
	}
	entry := dems.AppendEntry(nil, &dems.Entry{
		Kind:  dems.BatchEntry,
		Batch: dems.Batch{Session: f.session, Number: f.number, Commands: commands},
	})
	ctx, cancel := context.WithCancel(c.ctx)
	leader := v.leader
	c.asked, c.stop = leader, cancel
	c.group.Go(func() {
		defer cancel()
		reply, err := leader.replica.Propose(ctx, entry)
		c.attempts <- attempt{leader, reply, err}
	})
	return true
}

// board returns the commands that nobody has taken back and marks them as proposed.
func board(waiters []*pending) []*pending {
	aboard := waiters[:0]
	for _, waiter := range waiters {
		if waiter.state.CompareAndSwap(waiting, proposed) {
			aboard = append(aboard, waiter)
		}
	}
	return aboard
}

// handle takes in the leader's answer to an attempt.
func (c *course) handle(got attempt) {
	c.asked = nil
	if got.err == nil {
		c.replied = true
		c.flight.cast(got.node, got.reply.Vote.Index, got.reply.Vote.Results, got.reply.Results)
		return
	}
	c.proposer.logger.Debug("proposal failed", "node", got.node.address, "batch", c.flight.number, "error", got.err)
	refused, ok := errors.AsType[*dems.ReplicaError](got.err)
	if !ok || refused.Kind == dems.UnknownOutcome {
		c.uncertain = true
	}
	if !c.uncertain {
		for _, waiter := range c.flight.waiters {
			waiter.state.Store(waiting)
		}
	}
	c.resume = time.Now().Add(retryPause)
	c.group.Go(func() {
		if pause(c.ctx, nil, retryPause) {
			c.flight.signal()
		}
	})
	c.proposer.learn(got.node, got.err)
}

// ask asks nodes for their results, each at most once at a time. An answer is cast as a vote.
func (c *course) ask(nodes []*node) {
	for _, n := range nodes {
		c.mu.Lock()
		asking := c.asking[n]
		c.asking[n] = true
		c.mu.Unlock()
		if asking {
			continue
		}
		c.group.Go(func() {
			ctx, cancel := context.WithTimeout(c.ctx, askTimeout)
			defer cancel()
			reply, err := n.replica.Results(ctx, c.flight.session, c.flight.number)
			if err == nil {
				c.flight.cast(n, reply.Vote.Index, reply.Vote.Results, reply.Results)
			}
			c.mu.Lock()
			delete(c.asking, n)
			c.mu.Unlock()
		})
	}
}

// conclude answers every waiter with the results of the majority or, where the waiters were answered before, compares.
// It tells whether the nodes did not know the session.
func (c *course) conclude(v *view, counted count) (lost bool) {
	if !c.answered {
		return c.deliver(v, counted.winner, counted.agreeing)
	}
	if counted.winner.digest != c.early {
		c.proposer.metrics.early.Inc()
		c.proposer.logger.Error("the first answer was not the majority's", "batch", c.flight.number, "index", counted.winner.index)
	}
	return false
}

// deliverFirst answers every waiter with the first results that came, and leaves the check for later.
func (c *course) deliverFirst(v *view) {
	if b := c.flight.firstResults(); b != nil {
		if results, err := dems.DecodeResults(b.results); err == nil && len(results) == len(c.flight.waiters) {
			c.answered, c.early = true, b.digest
			c.deliver(v, b, 1)
		}
	}
}

// deliver answers every waiter with its result. It tells whether the nodes did not know the session.
func (c *course) deliver(v *view, winner *ballot, agreeing int) (lost bool) {
	f, p := c.flight, c.proposer
	results, err := dems.DecodeResults(winner.results)
	if err == nil && len(results) == 0 {
		c.returnCommands()
		return true
	}
	if err != nil || len(results) != len(f.waiters) {
		p.logger.Error("results do not fit the batch", "batch", f.number, "error", err)
		c.answerAll(answer{err: &dems.Error{Code: dems.Internal}})
		return false
	}
	raise(&p.acknowledged, winner.index)
	for i, waiter := range f.waiters {
		waiter.done <- answer{reply: Reply{
			Result: results[i], Sequence: results[i].Sequence, Agreeing: agreeing, Asked: len(v.voters),
		}}
	}
	return false
}

// raise sets a number to at least value.
func raise(number *atomic.Uint64, value uint64) {
	for {
		old := number.Load()
		if value <= old || number.CompareAndSwap(old, value) {
			return
		}
	}
}

// returnCommands gives the commands of a batch that was refused as a whole back to the queue. What may have been applied
// by an earlier attempt goes back only under a key of its own, since the session no longer protects it.
func (c *course) returnCommands() {
	for _, waiter := range c.flight.waiters {
		if c.uncertain && waiter.command.Key == "" && waiter.command.Op.Mutates() {
			waiter.done <- answer{err: &dems.Error{Code: dems.Indeterminate}}
			continue
		}
		waiter.state.Store(waiting)
		c.proposer.giveBack([]*pending{waiter})
	}
}

// deliverEach decides command by command, where the nodes' results as a whole have no majority: two nodes that were wrong
// in different places still leave a majority for every command. Where there is none, nothing is guessed.
func (c *course) deliverEach(v *view) {
	c.proposer.metrics.split.Inc()
	if c.answered {
		return
	}
	f := c.flight
	f.mu.Lock()
	decoded := make([][]dems.Result, 0, len(f.ballots))
	for _, b := range f.ballots {
		results, err := dems.DecodeResults(b.results)
		if v.isVoter(b.node) && err == nil && len(results) == len(f.waiters) {
			decoded = append(decoded, results)
		}
	}
	f.mu.Unlock()
	for i, waiter := range f.waiters {
		counts := map[string]int{}
		got := answer{err: &dems.Error{Code: dems.NoMajority}}
		for _, results := range decoded {
			key := string(dems.AppendResult(nil, &results[i]))
			counts[key]++
			if counts[key] == v.majority() {
				got = answer{reply: Reply{
					Result: results[i], Sequence: results[i].Sequence, Agreeing: v.majority(), Asked: len(v.voters),
				}}
				raise(&c.proposer.acknowledged, results[i].Sequence)
			}
		}
		waiter.done <- got
	}
}

// fail answers every waiter when the time is up or the front end stops.
func (c *course) fail(v *view, counted count) {
	switch {
	case c.answered:
	case counted.split:
		c.deliverEach(v)
	case c.uncertain || c.asked != nil || c.replied:
		c.answerAll(answer{err: &dems.Error{Code: dems.Indeterminate}})
	default:
		c.answerAll(answer{err: &dems.Error{Code: dems.Unavailable}})
	}
}

func (c *course) answerAll(got answer) {
	for _, waiter := range c.flight.waiters {
		waiter.done <- got
	}
}
