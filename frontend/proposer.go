package frontend

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dems"
	"dems/frontend/voting"
)

const (
	// retryPause is the pause before a batch is proposed again when nothing new was learned.
	retryPause = 10 * time.Millisecond
	// sessionTimeout bounds one attempt to open a session.
	sessionTimeout = 2 * time.Second
)

// proposer puts commands into batches and each batch into the log, and answers when a majority has applied it. While as
// many batches as allowed are in flight the next one fills, so batches grow with the load and nobody waits for company.
//
// It runs one goroutine that forms batches, one for each batch in flight, and one for each node's votes; run waits for
// all of them.
type proposer struct {
	members      *members
	registration dems.Registration
	window       uint64
	first        bool // answer with the first results, check afterwards
	logger       *slog.Logger
	metrics      *coreMetrics
	judge        *judge
	suspector    *suspector
	now          func() time.Time

	queue        queue
	acknowledged atomic.Uint64        // highest log index that was answered from
	detoured     atomic.Pointer[node] // leader that was reached by way of another node the last time; nil: none
	turn         atomic.Uint64        // says by way of which
	opened       way                  // by which the session was opened; of run's goroutine, and of flights, which it waits for
	open         atomic.Bool          // a session is open
	ended        chan struct{}        // closed when run has returned: nobody proposes any more

	mu      sync.Mutex
	session uint64
	next    uint64             // number of the next batch
	flights map[uint64]*flight // by number
	decided archive            // flights that have landed
	landed  chan struct{}      // closed and replaced when a flight lands
}

func newProposer(m *members, config *Config, metrics *coreMetrics, judge *judge) *proposer {
	return &proposer{
		members:      m,
		registration: dems.Registration{ID: config.ID, Address: config.Address, Version: config.Version},
		window:       uint64(config.BatchesInFlight),
		first:        config.Reply == ReplyFirst,
		logger:       config.Logger,
		metrics:      metrics,
		judge:        judge,
		suspector:    newSuspector(m, config.Logger, metrics),
		now:          config.Now,
		queue:        queue{filled: make(chan struct{}, 1)},
		ended:        make(chan struct{}),
		flights:      map[uint64]*flight{},
		landed:       make(chan struct{}),
	}
}

// do has a command ordered and returns a majority's answer.
func (p *proposer) do(ctx context.Context, command dems.Command) (Reply, error) {
	return p.order(ctx, command, nil)
}

// order has a command ordered and returns a majority's answer. With a node it does so as evidence on what that node answered.
func (p *proposer) order(ctx context.Context, command dems.Command, probing *node) (Reply, error) {
	waiter := &pending{command: command, probing: probing, done: make(chan answer, 1)}
	if !p.queue.add(waiter) {
		return Reply{}, &dems.Error{Code: dems.Unavailable, Detail: "Too many requests wait for the nodes; send it again later."}
	}
	select {
	case got := <-waiter.done:
		return got.reply, got.err
	case <-ctx.Done():
	case <-p.ended:
	}
	left := waiter.state.Swap(givenUp)
	if left == waiting {
		p.queue.remove(waiter)
	}
	select { // the answer may have come at the last moment
	case got := <-waiter.done:
		return got.reply, got.err
	default:
	}
	if left == waiting {
		return Reply{}, waiter.refusal().err
	}
	return Reply{}, &dems.Error{Code: dems.Indeterminate}
}

// run opens a session and proposes batches under it until the context ends. A session that the nodes have forgotten is
// replaced by a new one.
func (p *proposer) run(ctx context.Context) error {
	defer close(p.ended)
	for ctx.Err() == nil {
		if err := p.openSession(ctx); err != nil {
			break
		}
		p.runSession(ctx)
		p.open.Store(false)
	}
	return nil
}

// openSession registers the front end, which opens its session, and retries until it succeeds or the context ends.
func (p *proposer) openSession(ctx context.Context) error {
	registration := p.registration
	registration.Session = newSession()
	registration.Time = p.now()
	entry := dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: registration})
	for {
		view, changed := p.members.watch()
		if view.leader != nil && len(view.voters) > 0 {
			way := p.way(view)
			err := p.register(ctx, view.leader, way, entry)
			if err == nil {
				p.opened = way
				break
			}
			p.logger.Debug("open session", "node", cmp.Or(way.by, view.leader).address, "error", err)
			p.learn(view.leader, way, err)
		}
		p.members.refresh()
		if !pause(ctx, changed, 10*retryPause) {
			return ctx.Err()
		}
	}
	p.mu.Lock()
	p.session, p.next = registration.Session, 1
	p.flights, p.decided = map[uint64]*flight{}, archive{}
	p.mu.Unlock()
	p.open.Store(true)
	p.logger.Info("session open", "session", registration.Session)
	return nil
}

// register proposes a registration to a leader, as long as that leads and there is no other way to it.
func (p *proposer) register(ctx context.Context, leader *node, way way, entry []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := way.propose(ctx, leader, entry)
		done <- err
	}()
	alarm := time.NewTimer(p.suspector.deadline())
	defer alarm.Stop()
	for {
		view, changed := p.members.watch()
		if view.leader != leader || way.by == nil && p.way(view).by != nil {
			cancel()
			return <-done
		}
		select {
		case err := <-done:
			return err
		case <-changed:
		case <-alarm.C:
			p.suspector.suspect(leader)
			alarm.Reset(suspicionPause)
		}
	}
}

// newSession returns a random number that is not 0.
func newSession() uint64 {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails, by its documentation
	return binary.LittleEndian.Uint64(random[:]) | 1
}

// pause waits until the channel is closed or the time is over; false when the context ended.
func pause(ctx context.Context, changed <-chan struct{}, duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}

// way is how a leader is asked: by way of a node that hands on what it is given or, if that is nil, straight.
type way struct {
	by   *node
	turn uint64 // of the proposer, when by was chosen
}

// propose proposes an entry to a leader. By way of another node, the answer is that one's.
func (w way) propose(ctx context.Context, leader *node, entry []byte) (dems.BatchReply, error) {
	if w.by != nil {
		return w.by.replica.Forward(ctx, entry)
	}
	return leader.replica.Propose(ctx, entry)
}

// way returns how the leader of a view is asked. All take the same way until it leads nowhere.
func (p *proposer) way(v *view) way {
	turn := p.turn.Load()
	return way{p.members.detour(v, turn), turn}
}

// leave has everybody take another way than one that leads nowhere, if there is one.
func (p *proposer) leave(w way) {
	if w.by != nil {
		p.turn.CompareAndSwap(w.turn, w.turn+1)
	}
}

// takeDetour notes that a leader is asked by way of another node, for a batch perhaps for the first time. Unless it has been reached
// like this before, it may be gone for all, so the nodes are told to look.
func (p *proposer) takeDetour(leader *node, first bool) {
	if first {
		p.metrics.forwarded.Inc()
	}
	if p.detoured.Load() != leader {
		p.suspector.suspect(leader)
	}
}

// arrived notes how a leader was reached.
func (p *proposer) arrived(leader *node, w way) {
	if w.by == nil {
		leader = nil
	}
	p.detoured.Store(leader)
}

// learn takes in what an attempt to have a leader do something tells about who leads, and asks everybody. What came by way of another
// node may be that one's own word.
func (p *proposer) learn(leader *node, w way, err error) {
	p.members.fail(leader)
	p.leave(w)
	if refused, ok := errors.AsType[*dems.ReplicaError](err); ok && refused.Kind == dems.NotLeader && w.by == nil {
		p.members.hint(leader, refused.Leader)
	}
	p.members.hurry()
}

// runSession forms batches until the context ends or the session is lost, and returns when every batch has landed. A
// batch that is in flight when the session is lost finds out for itself what became of it.
func (p *proposer) runSession(ctx context.Context) {
	listening, silence := context.WithCancel(ctx)
	forming, lose := context.WithCancel(ctx)
	var listeners, flights sync.WaitGroup
	listeners.Go(func() { p.listen(listening) })
	for {
		number, ok := p.clear(forming)
		if !ok {
			break
		}
		waiters := p.collect(forming)
		if waiters == nil {
			break
		}
		f := newFlight(p.session, number, waiters)
		p.mu.Lock()
		p.flights[number] = f
		p.next = number + 1
		p.mu.Unlock()
		p.metrics.batchSize.Observe(float64(len(waiters)))
		flights.Go(func() {
			p.fly(ctx, f, func() {
				p.logger.Warn("the nodes do not know the session any more", "session", f.session)
				p.leave(p.opened) // a node may only have said that it was
				lose()
			})
			p.land(f)
		})
	}
	flights.Wait()
	lose()
	silence()
	listeners.Wait()
}

// clear waits until another batch may be in flight and returns its number. It keeps every batch in flight within window
// numbers of each other: the nodes remember that many of a session, so a batch proposed again is always recognised.
func (p *proposer) clear(ctx context.Context) (uint64, bool) {
	for {
		p.mu.Lock()
		number, oldest, landed := p.next, p.next, p.landed
		for n := range p.flights {
			oldest = min(oldest, n)
		}
		p.mu.Unlock()
		if number-oldest < p.window {
			return number, ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return 0, false
		case <-landed:
		}
	}
}

func (p *proposer) land(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.flights, f.number)
	f.waiters = nil
	p.decided.add(f)
	close(p.landed)
	p.landed = make(chan struct{})
}

// collect waits for a command and for a leader, and returns what is waiting then, up to one batch; nil when the context
// ended. Commands stay waiting, so that their waiters can give them up.
func (p *proposer) collect(ctx context.Context) []*pending {
	for p.queue.wait(ctx) {
		view, changed := p.members.watch()
		if view.leader == nil {
			p.members.refresh()
			if !pause(ctx, changed, 10*retryPause) {
				return nil
			}
		} else if waiters := p.queue.take(dems.MaxBatchCommands); waiters != nil {
			return waiters
		}
	}
	return nil
}

// listen receives the votes of every node until the context ends.
func (p *proposer) listen(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	listening := map[*node]bool{}
	for {
		view, changed := p.members.watch()
		for _, n := range view.nodes {
			if !listening[n] {
				listening[n] = true
				group.Go(func() { p.listenTo(ctx, n) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (p *proposer) listenTo(ctx context.Context, n *node) {
	for ctx.Err() == nil {
		err := n.replica.Votes(ctx, p.session, func(votes []dems.Vote) error {
			p.receive(n, votes)
			return nil
		})
		if ctx.Err() == nil {
			p.logger.Debug("votes ended", "node", n.address, "error", err)
			p.members.refresh()
		}
		if !pause(ctx, nil, 10*retryPause) {
			return
		}
	}
}

// receive counts a node's votes for the batches in flight, and judges those for batches that are decided.
func (p *proposer) receive(n *node, votes []dems.Vote) {
	for i := range votes {
		if votes[i].Session == 0 { // no batch: something about the cluster itself, perhaps who votes
			p.members.refresh()
		}
		if votes[i].Session != p.session {
			continue
		}
		p.mu.Lock()
		f := p.flights[votes[i].Batch]
		if f == nil {
			f = p.decided.find(votes[i].Batch)
		}
		p.mu.Unlock()
		if f != nil {
			p.cast(f, n, &votes[i], nil)
		}
	}
}

// cast counts a node's vote for a batch, with the results that came with it. One that does not come from the node it should
// come from does not count.
func (p *proposer) cast(f *flight, n *node, vote *dems.Vote, results []byte) {
	if !n.speaks(vote.Node) {
		return
	}
	if ballot := voting.NewBallot(vote, results); !f.cast(ballot) {
		p.judge.ballot(f, &ballot)
	}
}

// castReply counts a node's results.
func (p *proposer) castReply(f *flight, n *node, reply *dems.BatchReply) {
	results := reply.Results
	if results == nil { // no results are wrong results, and not a vote that leaves them for later
		results = []byte{}
	}
	p.cast(f, n, &reply.Vote, results)
}
