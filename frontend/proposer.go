package frontend

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dems"
)

const (
	// queueLimit is how many commands may wait for a batch; beyond it a command is refused as unavailable.
	queueLimit = 8192
	// retryPause is the pause before a batch is proposed again when nothing new was learned.
	retryPause = 10 * time.Millisecond
	// sessionTimeout bounds one attempt to open a session.
	sessionTimeout = 2 * time.Second
)

var errSessionLost = errors.New("the nodes do not know this front end's session any more")

// What has become of a command that waits. A waiter whose time is up takes a command back if it stands at waiting; a
// batch takes it along if it stands at waiting. So a command that was answered as unavailable is never proposed.
const (
	waiting   int32 = iota
	proposed        // in an attempt whose outcome is open
	takenBack       // answered as unavailable
)

// pending is one command on its way through the log.
type pending struct {
	command dems.Command
	state   atomic.Int32
	done    chan answer // holds one
}

type answer struct {
	reply Reply
	err   error
}

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
	now          func() time.Time

	queue        chan *pending
	acknowledged atomic.Uint64 // highest log index that was answered from
	open         atomic.Bool   // a session is open

	mu      sync.Mutex
	session uint64
	next    uint64             // number of the next batch
	flights map[uint64]*flight // by number
	landed  chan struct{}      // closed and replaced when a flight lands
}

func newProposer(m *members, config *Config, metrics *coreMetrics) *proposer {
	return &proposer{
		members:      m,
		registration: dems.Registration{ID: config.ID, Address: config.Address, Version: config.Version},
		window:       uint64(config.BatchesInFlight),
		first:        config.Reply == ReplyFirst,
		logger:       config.Logger,
		metrics:      metrics,
		now:          config.Now,
		queue:        make(chan *pending, queueLimit),
		flights:      map[uint64]*flight{},
		landed:       make(chan struct{}),
	}
}

// do has a command ordered and returns a majority's answer.
func (p *proposer) do(ctx context.Context, command dems.Command) (Reply, error) {
	waiter := &pending{command: command, done: make(chan answer, 1)}
	select {
	case p.queue <- waiter:
	default:
		return Reply{}, &dems.Error{Code: dems.Unavailable, Detail: "Too many requests wait for the nodes; send it again later."}
	}
	select {
	case got := <-waiter.done:
		return got.reply, got.err
	case <-ctx.Done():
	}
	if waiter.state.CompareAndSwap(waiting, takenBack) {
		return Reply{}, &dems.Error{Code: dems.Unavailable}
	}
	select { // the answer may have come at the last moment
	case got := <-waiter.done:
		return got.reply, got.err
	default:
		return Reply{}, &dems.Error{Code: dems.Indeterminate}
	}
}

// run opens a session and proposes batches under it until the context ends. A session that the nodes have forgotten is
// replaced by a new one.
func (p *proposer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.openSession(ctx); err != nil {
			break
		}
		p.runSession(ctx)
		p.open.Store(false)
	}
	for {
		select {
		case waiter := <-p.queue:
			waiter.done <- answer{err: &dems.Error{Code: dems.Unavailable}}
		default:
			return nil
		}
	}
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
			attempt, cancel := context.WithTimeout(ctx, sessionTimeout)
			_, err := view.leader.replica.Propose(attempt, entry)
			cancel()
			if err == nil {
				break
			}
			p.logger.Debug("open session", "node", view.leader.address, "error", err)
			p.learn(view.leader, err)
		}
		p.members.refresh()
		if !pause(ctx, changed, 10*retryPause) {
			return ctx.Err()
		}
	}
	p.mu.Lock()
	p.session, p.next = registration.Session, 1
	p.flights = map[uint64]*flight{}
	p.mu.Unlock()
	p.open.Store(true)
	p.logger.Info("session open", "session", registration.Session)
	return nil
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

// learn takes in what an error tells about who leads and asks the others.
func (p *proposer) learn(n *node, err error) {
	if refused, ok := errors.AsType[*dems.ReplicaError](err); ok && refused.Kind == dems.NotLeader {
		p.members.hint(n, refused.Leader)
	}
	p.members.refresh()
}

// runSession forms batches until the context ends or the session is lost.
func (p *proposer) runSession(ctx context.Context) {
	scope, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	var group sync.WaitGroup
	defer group.Wait()
	defer lose(nil)
	group.Go(func() { p.listen(scope) })
	for {
		number, ok := p.clear(scope)
		if !ok {
			return
		}
		waiters := p.collect(scope)
		if waiters == nil {
			return
		}
		f := &flight{session: p.session, number: number, waiters: waiters, wake: make(chan struct{}, 1)}
		p.mu.Lock()
		p.flights[number] = f
		p.next = number + 1
		p.mu.Unlock()
		p.metrics.batchSize.Observe(float64(len(waiters)))
		group.Go(func() {
			if lost := p.fly(scope, f); lost {
				lose(errSessionLost)
			}
			p.land(f)
		})
	}
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
	close(p.landed)
	p.landed = make(chan struct{})
}

// collect waits for a command and for a leader, and returns what is waiting then, up to one batch. Commands stay
// waiting, so that their waiters can take them back.
func (p *proposer) collect(ctx context.Context) []*pending {
	var waiters []*pending
	select {
	case <-ctx.Done():
		return nil
	case first := <-p.queue:
		waiters = append(waiters, first)
	}
	for view, changed := p.members.watch(); view.leader == nil; view, changed = p.members.watch() {
		p.members.refresh()
		if !pause(ctx, changed, 10*retryPause) {
			p.giveBack(waiters)
			return nil
		}
	}
	for len(waiters) < dems.MaxBatchCommands {
		select {
		case waiter := <-p.queue:
			waiters = append(waiters, waiter)
		default:
			return waiters
		}
	}
	return waiters
}

// giveBack puts commands that were certainly not applied back into the queue, or answers them where it is full.
func (p *proposer) giveBack(waiters []*pending) {
	for _, waiter := range waiters {
		select {
		case p.queue <- waiter:
		default:
			waiter.done <- answer{err: &dems.Error{Code: dems.Unavailable}}
		}
	}
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

// receive counts a node's votes for the batches in flight.
func (p *proposer) receive(n *node, votes []dems.Vote) {
	for i := range votes {
		if votes[i].Session != p.session {
			continue
		}
		p.mu.Lock()
		f := p.flights[votes[i].Batch]
		p.mu.Unlock()
		if f != nil {
			f.cast(n, votes[i].Index, votes[i].Results, nil)
		}
	}
}
