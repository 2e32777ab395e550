package frontend

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dems"
	"dems/frontend/voting"
)

// attempt is a proposal of a batch to a leader and, when that is known, the answer.
type attempt struct {
	node    *node
	way     way    // by which the leader is asked
	term    uint64 // in which it was believed to lead
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
	forwarded  bool          // another node was asked to hand the batch on
	replied    *attempt      // says that it was applied, and is not doubted yet
	replyTime  time.Time     // when it said so
	applicable int           // attempts that may have been, or may yet be, applied, without the current one
	retry      *time.Timer   // runs while no attempt may be made after one that failed
	failed     *attempt      // the one that failed, while that runs; a new leader may be tried all the same
	alarm      *time.Timer   // tells that the leader takes too long, or after its answer the others
	splitTime  time.Time     // since when no majority can be got without waiting for somebody to vote again; zero: one can
	sent       [][]*pending  // what the batch has been proposed as: shorter each time, as waiters give up
	answered   bool          // the waiters have their answers; what follows is the check
	early      []byte        // the results they were given before a majority was known

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
		alarm: time.NewTimer(time.Hour),
	}
	defer c.group.Wait()
	defer cancel()
	defer c.retry.Stop()
	defer c.alarm.Stop()
	impatient := time.NewTicker(patience)
	defer impatient.Stop()
	for {
		view, changed := p.members.watch()
		counted := f.tally(view)
		if counted.Won {
			p.metrics.decided.Observe(time.Since(c.started).Seconds())
			c.conclude(view, &counted)
			return
		}
		if c.hopeless(&counted) {
			c.deliverEach(view)
			return
		}
		if p.first && !c.answered {
			c.deliverFirst(view)
		}
		if c.current == nil { // else the leader's answer brings the results
			c.ask(view.named(counted.Missing))
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
			c.failed = nil
		case <-c.alarm.C:
			if late := cmp.Or(c.current, c.replied); late != nil {
				p.suspector.suspect(late.node)
				c.alarm.Reset(suspicionPause)
			}
		case <-impatient.C:
			if c.deserted() {
				return
			}
			p.members.refresh()
			c.ask(view.named(counted.Missing))
			c.ask(f.silent(view))
			c.doubt()
		case <-ctx.Done():
			c.fail(view, &counted)
			return
		}
	}
}

// steer starts an attempt where one is due: none is on its way, or the leader has changed since. It returns false when
// no command is left to propose, because every waiter gave its own up.
func (c *course) steer(v *view) bool {
	leader := v.leader
	switch {
	case leader == nil,
		c.failed != nil && (c.failed.node == leader || c.failed.term >= v.term),
		c.replied != nil && c.replied.node == leader:
		return true
	}
	way := c.proposer.way(v)
	if c.current != nil && c.current.node == leader && (way.by == nil || c.current.way.by != nil) {
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
	if len(c.sent) == 0 || len(c.sent[len(c.sent)-1]) != len(f.waiters) {
		c.sent = append(c.sent, f.waiters)
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
	made := &attempt{node: leader, way: way, term: v.term, started: time.Now(), stop: stop}
	c.current = made
	if way.by != nil {
		c.proposer.takeDetour(leader, !c.forwarded)
		c.forwarded = true
	}
	c.alarm.Reset(c.proposer.suspector.deadline())
	c.group.Go(func() {
		defer stop()
		made.reply, made.err = way.propose(ctx, leader, entry)
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

// board returns the commands that nobody has given up and marks them as proposed. What it is given stays as it is.
func board(waiters []*pending) []*pending {
	for i, waiter := range waiters {
		if waiter.state.CompareAndSwap(waiting, proposed) {
			continue
		}
		boarded := slices.Clone(waiters[:i])
		for _, waiter := range waiters[i+1:] {
			if waiter.state.CompareAndSwap(waiting, proposed) {
				boarded = append(boarded, waiter)
			}
		}
		return boarded
	}
	return waiters
}

// composition returns the waiters of the batch as it had so many commands. A node that took it and denied that may have put
// it into the log before one of them gave up. Nil where it never had so many.
func (c *course) composition(commands int) []*pending {
	for _, waiters := range c.sent {
		if len(waiters) == commands {
			return waiters
		}
	}
	return nil
}

// handle takes in the answer to an attempt.
func (c *course) handle(got *attempt) {
	if got.err == nil {
		c.proposer.castReply(c.flight, cmp.Or(got.way.by, got.node), &got.reply)
	}
	if got != c.current { // the leader has changed since
		return
	}
	c.current = nil
	if got.err == nil {
		c.proposer.suspector.answered(time.Since(got.started))
		c.proposer.arrived(got.node, got.way)
		c.applicable++
		c.replied, c.replyTime = got, time.Now()
		// A leader that is cut off from the others answers, and they do not learn what to vote on.
		c.alarm.Reset(c.proposer.suspector.voteDeadline())
		return
	}
	c.proposer.logger.Debug("proposal failed", "node", cmp.Or(got.way.by, got.node).address, "batch", c.flight.number, "error", got.err)
	refused, ok := errors.AsType[*dems.ReplicaError](got.err)
	// That a leader has not taken it is believed: it is asked again. Another node's word for that counts for nothing.
	unknown := !ok || refused.Kind == dems.UnknownOutcome || got.way.by != nil
	if unknown {
		c.applicable++
	}
	// The connection broke, there is none, or a leader that was killed is back before its peers have missed it.
	if unknown || refused.Kind == dems.NotApplied || refused.Kind == dems.NotLeader && refused.Leader == "" {
		c.proposer.suspector.suspect(got.node)
	}
	if c.applicable == 0 {
		for _, waiter := range c.flight.waiters {
			waiter.state.CompareAndSwap(proposed, waiting)
		}
	}
	c.failed = got
	c.retry.Reset(retryPause)
	c.proposer.learn(got.node, got.way, got.err)
}

// doubt looks whether the leader takes too long to answer, or the others to agree with it. Then somebody else is asked,
// if there is anybody else, or the same once more.
func (c *course) doubt() {
	switch {
	case c.current != nil && time.Since(c.current.started) > c.allowance:
		c.proposer.members.fail(c.current.node)
		c.proposer.leave(c.current.way)
		c.abandon()
	case c.replied != nil && time.Since(c.replyTime) > c.allowance:
		c.proposer.members.fail(c.replied.node)
		c.proposer.leave(c.replied.way)
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

// hopeless tells whether the batch has to be decided command by command: no entry can get a majority, and all results are
// there or have been waited for.
func (c *course) hopeless(counted *voting.Count) bool {
	switch {
	case !counted.Split && !counted.Scattered:
		c.splitTime = time.Time{}
		return false
	case c.splitTime.IsZero():
		c.splitTime = time.Now()
	}
	return counted.Split && len(counted.Missing) == 0 || time.Since(c.splitTime) > doubt
}

// ask asks nodes for their results, each at most once at a time and not again at once: a wrong node's answer may be of no
// help however often it is asked. An answer is cast as a vote.
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
				c.proposer.castReply(c.flight, n, &reply)
			}
			pause(c.ctx, nil, askPause)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.asking = slices.DeleteFunc(c.asking, func(other *node) bool { return other == n })
		})
	}
}

// conclude answers every waiter with the results of the majority or, where the waiters were answered before, compares. No
// results at all mean that the nodes do not know the session.
func (c *course) conclude(v *view, counted *voting.Count) {
	p, winner := c.proposer, &counted.Winner
	if c.replied != nil {
		c.replied.node.proven.Store(true)
	}
	results, err := dems.DecodeResults(winner.Bytes)
	waiters := c.composition(len(results))
	c.judge(c.flight.decide(v, counted, max(len(waiters), 1)))
	if c.answered && !bytes.Equal(winner.Bytes, c.early) {
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
	case err != nil || waiters == nil:
		p.logger.Error("results do not fit the batch", "batch", c.flight.number, "error", err)
		if !c.answered { // no leader that is right has proposed this
			c.answerAll(answer{err: &dems.Error{Code: dems.Indeterminate}})
		}
		return
	}
	for i := range results { // what a majority says; the index in a vote is one node's word
		raise(&p.acknowledged, results[i].Sequence)
	}
	if !c.answered {
		c.deliver(v, waiters, results, counted.Agreeing)
	}
}

// judge judges the ballots that were cast before the decision.
func (c *course) judge(ballots []voting.Ballot) {
	for i := range ballots {
		c.proposer.judge.ballot(c.flight, &ballots[i])
	}
}

// deliverFirst answers every waiter with the first results that came, and leaves the check for later.
func (c *course) deliverFirst(v *view) {
	if first := c.flight.firstResults(); first != nil {
		if results, err := dems.DecodeResults(first); err == nil && len(results) == len(c.flight.waiters) {
			c.answered, c.early = true, first
			c.deliver(v, c.flight.waiters, results, 1)
		}
	}
}

// deliver answers every waiter with its result.
func (c *course) deliver(v *view, waiters []*pending, results []dems.Result, agreeing int) {
	for i, waiter := range waiters {
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
	p := c.proposer
	p.metrics.split.Inc()
	sizes := make([]int, 0, len(c.sent))
	for _, waiters := range slices.Backward(c.sent) {
		sizes = append(sizes, len(waiters))
	}
	ballots := c.flight.decideEach(v, sizes)
	c.judge(ballots)
	each := c.flight.decision.Each
	if slices.ContainsFunc(each, func(command voting.Command) bool { return command.Agreeing == 0 }) {
		p.reportNoMajority(c.flight, ballots)
	}
	if c.answered {
		return
	}
	for i, waiter := range c.composition(len(each)) {
		got := answer{err: &dems.Error{Code: dems.NoMajority}}
		if command := &each[i]; command.Agreeing > 0 {
			got = answer{reply: Reply{
				Result: command.Result, Sequence: command.Result.Sequence, Agreeing: command.Agreeing, Asked: len(v.voters),
			}}
			raise(&p.acknowledged, got.reply.Sequence)
		}
		waiter.answer(got)
	}
	c.answerAll(answer{err: &dems.Error{Code: dems.NoMajority}}) // whoever has no answer yet
}

// reportNoMajority reports that a batch, or a part of it, has no majority.
func (p *proposer) reportNoMajority(f *flight, ballots []voting.Ballot) {
	p.metrics.noMajority.Inc()
	var answered strings.Builder
	for i := range ballots {
		b := &ballots[i]
		fmt.Fprintf(&answered, "%s: results %.8s, state %.8s; ", b.Node, b.Results, b.State)
	}
	p.logger.Error("no majority", "batch", f.number, "index", f.decision.Index, "answered", answered.String())
	p.judge.reporter.add(dems.Report{
		Kind: dems.NoMajorityReport, Indexes: []uint64{f.decision.Index}, Expected: "a majority with equal results and states",
		Answered: answered.String()[:min(answered.Len(), dems.MaxEvidenceBytes)],
	})
}

// fail answers every waiter when the front end stops.
func (c *course) fail(v *view, counted *voting.Count) {
	switch {
	case c.answered:
	case counted.Split:
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
