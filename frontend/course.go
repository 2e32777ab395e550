package frontend

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dems"
)

// attempt is a proposal of a batch to a leader and, when that is known, the answer.
type attempt struct {
	node    *node
	started time.Time
	stop    context.CancelFunc
	reply   dems.BatchReply
	err     error
}

// course is what the goroutine of one flight knows beside the votes. Only group, attempts and asking are touched by other
// goroutines.
type course struct {
	proposer *proposer
	flight   *flight
	ctx      context.Context
	lose     func()         // tells that the session is lost
	group    sync.WaitGroup // attempts and questions on their way
	attempts chan *attempt  // those that were answered

	started    time.Time
	allowance  time.Duration // how long a leader may take; it grows, so that a slow cluster is not burdened more and more
	current    *attempt      // on its way; nil: none
	replied    *attempt      // says that it was applied, and is not doubted yet
	replyTime  time.Time     // when it said so
	applicable int           // attempts that may have been, or may yet be, applied, without the current one
	retry      *time.Timer   // runs while no attempt may be made after one that failed
	resting    bool          // it runs
	splitTime  time.Time     // since when no digest can get a majority; zero: one can
	answered   bool          // the waiters have their answers; what follows is the check
	early      dems.Digest   // of the results they were given before a majority was known

	mu     sync.Mutex
	asking []*node // whose results have been asked for
}

// fly proposes a batch until a majority has applied it or nobody waits for it any more, and answers its waiters. It calls
// lose if the session turns out to be lost, before anybody hears of it.
func (p *proposer) fly(ctx context.Context, f *flight, lose func()) {
	ctx, cancel := context.WithCancel(ctx)
	c := &course{
		proposer: p, flight: f, ctx: ctx, lose: lose,
		attempts: make(chan *attempt), started: time.Now(), allowance: doubt, retry: time.NewTimer(time.Hour),
	}
	defer c.group.Wait()
	defer cancel()
	defer c.retry.Stop()
	impatient := time.NewTicker(patience)
	defer impatient.Stop()
	for {
		view, changed := p.members.watch()
		counted := f.tally(view)
		if counted.winner != nil {
			p.metrics.decided.Observe(time.Since(c.started).Seconds())
			c.conclude(view, counted)
			return
		}
		if c.hopeless(counted) {
			c.deliverEach(view)
			return
		}
		if p.first && !c.answered {
			c.deliverFirst(view)
		}
		if c.current == nil { // else the leader's answer brings the results
			c.ask(counted.missing)
		}
		if !c.steer(view) {
			return
		}
		select {
		case <-f.wake:
		case <-changed:
		case got := <-c.attempts:
			c.handle(got)
		case <-c.retry.C:
			c.resting = false
		case <-impatient.C:
			if c.deserted() {
				return
			}
			p.members.refresh()
			c.ask(counted.missing)
			c.ask(f.silent(view))
			c.doubt()
		case <-ctx.Done():
			c.fail(view, counted)
			return
		}
	}
}

// steer starts an attempt where one is due: none is on its way, or the leader has changed since. It returns false when
// no command is left to propose, because every waiter gave its own up.
func (c *course) steer(v *view) bool {
	leader := v.leader
	switch {
	case leader == nil || c.resting,
		c.current != nil && c.current.node == leader,
		c.replied != nil && c.replied.node == leader:
		return true
	}
	c.abandon()
	f := c.flight
	if c.applicable == 0 {
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
	ctx, stop := context.WithCancel(c.ctx)
	made := &attempt{node: leader, started: time.Now(), stop: stop}
	c.current = made
	c.group.Go(func() {
		defer stop()
		made.reply, made.err = leader.replica.Propose(ctx, entry)
		select {
		case c.attempts <- made:
		case <-c.ctx.Done():
		}
	})
	return true
}

// abandon stops the attempt that is on its way. It may still be applied.
func (c *course) abandon() {
	if c.current != nil {
		c.current.stop()
		c.current = nil
		c.applicable++
	}
}

// board returns the commands that nobody has given up and marks them as proposed.
func board(waiters []*pending) []*pending {
	return slices.DeleteFunc(waiters, func(waiter *pending) bool { return !waiter.state.CompareAndSwap(waiting, proposed) })
}

// handle takes in the answer to an attempt.
func (c *course) handle(got *attempt) {
	if got.err == nil {
		c.flight.castReply(got.node, &got.reply)
	}
	if got != c.current { // the leader has changed since
		return
	}
	c.current = nil
	if got.err == nil {
		c.applicable++
		c.replied, c.replyTime = got, time.Now()
		return
	}
	c.proposer.logger.Debug("proposal failed", "node", got.node.address, "batch", c.flight.number, "error", got.err)
	refused, ok := errors.AsType[*dems.ReplicaError](got.err)
	if !ok || refused.Kind == dems.UnknownOutcome {
		c.applicable++
	}
	if c.applicable == 0 {
		for _, waiter := range c.flight.waiters {
			waiter.state.CompareAndSwap(proposed, waiting)
		}
	}
	c.resting = true
	c.retry.Reset(retryPause)
	c.proposer.learn(got.node, got.err)
}

// doubt looks whether the leader takes too long to answer, or the others to agree with it. Then somebody else is asked,
// if there is anybody else, or the same once more.
func (c *course) doubt() {
	switch {
	case c.current != nil && time.Since(c.current.started) > c.allowance:
		c.proposer.members.fail(c.current.node)
		c.abandon()
	case c.replied != nil && time.Since(c.replyTime) > c.allowance:
		c.proposer.members.fail(c.replied.node)
		c.replied = nil
	default:
		return
	}
	c.allowance *= 2
}

// deserted tells whether nobody waits for the batch any more.
func (c *course) deserted() bool {
	if c.answered {
		return time.Since(c.started) > checkTimeout
	}
	return !slices.ContainsFunc(c.flight.waiters, func(waiter *pending) bool { return waiter.state.Load() != givenUp })
}

// hopeless tells whether the batch has to be decided command by command: no digest can get a majority, and all results
// are there or have been waited for.
func (c *course) hopeless(counted count) bool {
	switch {
	case !counted.split:
		c.splitTime = time.Time{}
		return false
	case c.splitTime.IsZero():
		c.splitTime = time.Now()
	}
	return len(counted.missing) == 0 || time.Since(c.splitTime) > doubt
}

// ask asks nodes for their results, each at most once at a time. An answer is cast as a vote.
func (c *course) ask(nodes []*node) {
	for _, n := range nodes {
		c.mu.Lock()
		asking := slices.Contains(c.asking, n)
		if !asking {
			c.asking = append(c.asking, n)
		}
		c.mu.Unlock()
		if asking {
			continue
		}
		c.group.Go(func() {
			ctx, cancel := context.WithTimeout(c.ctx, askTimeout)
			defer cancel()
			reply, err := n.replica.Results(ctx, c.flight.session, c.flight.number)
			if err == nil {
				c.flight.castReply(n, &reply)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.asking = slices.DeleteFunc(c.asking, func(other *node) bool { return other == n })
		})
	}
}

// conclude answers every waiter with the results of the majority or, where the waiters were answered before, compares. No
// results at all mean that the nodes do not know the session.
func (c *course) conclude(v *view, counted count) {
	p, winner := c.proposer, counted.winner
	if c.replied != nil {
		c.replied.node.proven.Store(true)
	}
	results, err := dems.DecodeResults(winner.results)
	if c.answered && winner.digest != c.early {
		p.metrics.early.Inc()
		p.logger.Error("the first answer was not the majority's", "batch", c.flight.number)
	}
	switch {
	case err == nil && len(results) == 0:
		c.lose()
		if !c.answered {
			c.returnCommands()
		}
		return
	case err != nil || len(results) != len(c.flight.waiters):
		p.logger.Error("results do not fit the batch", "batch", c.flight.number, "error", err)
		if !c.answered { // a node took the batch, perhaps in another composition, and denied it
			c.answerAll(answer{err: &dems.Error{Code: dems.Indeterminate}})
		}
		return
	}
	for i := range results { // what a majority says; the index in a vote is one node's word
		raise(&p.acknowledged, results[i].Sequence)
	}
	if !c.answered {
		c.deliver(v, results, counted.agreeing)
	}
}

// deliverFirst answers every waiter with the first results that came, and leaves the check for later.
func (c *course) deliverFirst(v *view) {
	if b := c.flight.firstResults(); b != nil {
		if results, err := dems.DecodeResults(b.results); err == nil && len(results) == len(c.flight.waiters) {
			c.answered, c.early = true, b.digest
			c.deliver(v, results, 1)
		}
	}
}

// deliver answers every waiter with its result.
func (c *course) deliver(v *view, results []dems.Result, agreeing int) {
	for i, waiter := range c.flight.waiters {
		waiter.answer(answer{reply: Reply{
			Result: results[i], Sequence: results[i].Sequence, Agreeing: agreeing, Asked: len(v.voters),
		}})
	}
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

// returnCommands gives the commands of a batch that was refused as a whole back to the queue. If more than one attempt may
// have reached the log, one of them may have been applied before the session was lost. Then a command goes back only under
// a key of its own, since the session does not protect it any more.
func (c *course) returnCommands() {
	exposed := c.applicable > 1 || c.applicable > 0 && c.current != nil
	var back []*pending
	for _, waiter := range c.flight.waiters {
		if exposed && waiter.command.Op.Mutates() {
			if waiter.command.Key == "" {
				waiter.answer(answer{err: &dems.Error{Code: dems.Indeterminate}})
				continue
			}
			waiter.exposed.Store(true)
		}
		if waiter.state.CompareAndSwap(proposed, waiting) {
			back = append(back, waiter)
		}
	}
	c.proposer.queue.putBack(back)
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
			if counts[key]++; counts[key] >= v.majority() {
				got = answer{reply: Reply{
					Result: results[i], Sequence: results[i].Sequence, Agreeing: counts[key], Asked: len(v.voters),
				}}
			}
		}
		raise(&c.proposer.acknowledged, got.reply.Sequence)
		waiter.answer(got)
	}
}

// fail answers every waiter when the front end stops.
func (c *course) fail(v *view, counted count) {
	switch {
	case c.answered:
	case counted.split:
		c.deliverEach(v)
	case c.applicable > 0 || c.current != nil:
		c.answerAll(answer{err: &dems.Error{Code: dems.Indeterminate}})
	default:
		for _, waiter := range c.flight.waiters {
			waiter.answer(waiter.refusal())
		}
	}
}

func (c *course) answerAll(got answer) {
	for _, waiter := range c.flight.waiters {
		waiter.answer(got)
	}
}
