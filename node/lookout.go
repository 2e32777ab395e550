package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"dems"

	"github.com/hashicorp/raft"
)

const (
	// lookInterval is how often a follower looks at its leader while entries are applied, as often about as it gets a
	// heartbeat; otherwise nobody waits for the leader, and every idleLook suffices to know how fast it answers.
	lookInterval = 50 * time.Millisecond
	idleLook     = 10 * lookInterval
	// lookPause is the shortest pause from one look to the next, however many ask for one.
	lookPause = 20 * time.Millisecond
	// A leader that does not answer within lookFactor times its slowest recent answer counts as gone, but never before
	// minPatience, in which a lost packet is sent again, nor later than maxPatience.
	lookFactor  = 4
	minPatience = 40 * time.Millisecond
	maxPatience = 300 * time.Millisecond
	// maxLook bounds a look. As long as Raft still hears from a leader that does not answer, it may be busy, and counts as
	// gone only then.
	maxLook = time.Second
	// recently is how long, times 1 to 2, an answer counts as recent.
	recently = 2500 * time.Millisecond
	// askAgain is the pause before the leader is asked again after a connection to it broke.
	askAgain = 5 * time.Millisecond
)

// lookout is how a follower sees its leader. While there is work, looks are taken all the time, one after the other: who asks
// gets the look that is under way, so that of a leader that is gone most of the waiting is over when the first one asks; the connection is
// there; and it is known how long answers take at present. Whoever asks cannot cause more than one look in lookPause, nor
// looks at anybody but the leader.
type lookout struct {
	wanted     chan struct{}       // holds a token when somebody wants a look
	suspicions chan dems.Suspicion // holds one of the leader in sight that was not acted upon yet

	mu      sync.Mutex
	sight   dems.Suspicion // the leader that Raft named last, and its term
	current *look          // under way
	next    *look          // asked for
	slowest slowest        // of the leader in sight
}

// look is one look at a leader.
type look struct {
	of      dems.Suspicion
	decided chan struct{}
	gone    bool // whether it does not lead any more or does not answer; to be read after decided is closed
}

func newLookout() *lookout {
	return &lookout{wanted: make(chan struct{}, 1), suspicions: make(chan dems.Suspicion, 1)}
}

// focus takes in whom Raft names as the leader, if it names one, and returns the leader in sight.
func (o *lookout) focus(r *raft.Raft) dems.Suspicion {
	// Raft forgets the leader before it enters a term and names one afterwards: with the same term before and after, the
	// name is of that term.
	term := r.CurrentTerm()
	address, _ := r.LeaderWithID()
	o.mu.Lock()
	defer o.mu.Unlock()
	if address != "" && term == r.CurrentTerm() && term >= o.sight.Term {
		if leader := dems.NodeID(address); leader != o.sight.Leader {
			o.slowest = slowest{}
		}
		o.sight = dems.Suspicion{Leader: dems.NodeID(address), Term: term}
	}
	return o.sight
}

// join returns the look at a leader that is under way, or the next one.
func (o *lookout) join(of dems.Suspicion) *look {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.current != nil && o.current.of == of {
		return o.current
	}
	if o.next == nil {
		o.next = &look{decided: make(chan struct{})}
		select {
		case o.wanted <- struct{}{}:
		default:
		}
	}
	return o.next
}

// begin starts the next look and returns how long the leader has for its answer.
func (o *lookout) begin(of dems.Suspicion) (*look, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.current, o.next = o.next, nil; o.current == nil {
		o.current = &look{decided: make(chan struct{})}
	}
	o.current.of = of
	return o.current, o.slowest.patience(time.Now())
}

// patience is how long the leader has for an answer at present.
func (o *lookout) patience() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.slowest.patience(time.Now())
}

// end ends the look under way. Took is how long the answer took, 0 where none came.
func (o *lookout) end(took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if took > 0 && o.current.of.Leader == o.sight.Leader {
		o.slowest.add(time.Now(), took)
	}
	o.current = nil
}

// decide tells those who wait. The first decision counts.
func (l *look) decide(gone bool) {
	if !isClosed(l.decided) {
		l.gone = gone
		close(l.decided)
	}
}

// slowest is the longest recent answer time.
type slowest struct {
	current, previous time.Duration // in the window that began then, and in the one before
	began             time.Time
}

func (s *slowest) turn(now time.Time) {
	if age := now.Sub(s.began); age >= 2*recently {
		*s = slowest{began: now}
	} else if age >= recently {
		*s = slowest{previous: s.current, began: now}
	}
}

func (s *slowest) add(now time.Time, took time.Duration) {
	s.turn(now)
	s.current = max(s.current, took)
}

// patience is how long a leader is given to answer. One that has not answered yet gets the longest time.
func (s *slowest) patience(now time.Time) time.Duration {
	s.turn(now)
	known := max(s.current, s.previous)
	if known == 0 {
		return maxPatience
	}
	return min(max(lookFactor*known, minPatience), maxPatience)
}

// lookOut takes looks at the leader until ctx ends.
func (n *Node) lookOut(ctx context.Context, r *raft.Raft) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	var looked time.Time
	applied := uint64(0) // at the last look
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				due = n.state.applied.get() != applied || time.Since(looked) >= idleLook
			case <-n.lookout.wanted:
				due = true
			}
		}
		applied, looked = n.state.applied.get(), time.Now()
		pause.Reset(lookPause)
		n.lookOnce(ctx, r)
	}
}

// lookOnce takes one look. It goes on after it has decided that the leader does not answer, to learn how long an answer
// takes if one comes, but not after another node has become the leader.
func (n *Node) lookOnce(ctx context.Context, r *raft.Raft) {
	of := n.lookout.focus(r)
	l, patience := n.lookout.begin(of)
	var took time.Duration
	defer func() { n.lookout.end(took) }()
	leader := n.peers[of.Leader]
	if leader == nil { // none is known, or it is this node
		l.decide(false)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, maxLook)
	defer cancel()
	type answer struct{ leads, came bool }
	answers := make(chan answer, 1)
	started := time.Now()
	go func() { // ends with ctx, and is waited for
		var a answer
		a.leads, a.came = asksLeader(ctx, leader, of)
		answers <- a
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	ticker := time.NewTicker(lookPause)
	defer ticker.Stop()
	for {
		select {
		case a := <-answers:
			if a.came {
				took = time.Since(started)
			}
			l.decide(!a.leads)
			return
		case <-timer.C:
			if since := time.Since(r.LastContact()); since < patience && started.Before(r.LastContact()) {
				timer.Reset(patience - since)
			} else {
				l.decide(true)
			}
		case <-ticker.C:
			if n.lookout.focus(r) != of {
				cancel()
			}
		}
	}
}

// suspectable is what of a node a look needs.
type suspectable interface {
	Suspect(ctx context.Context, s dems.Suspicion) (dems.Opinion, error)
}

// asksLeader asks a leader whether it leads in that term or a newer one, until an answer comes or ctx ends.
func asksLeader(ctx context.Context, leader suspectable, of dems.Suspicion) (leads, came bool) {
	for {
		opinion, err := leader.Suspect(ctx, of)
		if err == nil {
			return !opinion.Agrees, true
		}
		switch refused, _ := errors.AsType[*dems.ReplicaError](err); {
		case ctx.Err() != nil:
			return false, false
		case refused != nil && refused.Kind == dems.NotReady: // the node runs, but does not lead: it starts or stops
			return false, true
		case refused != nil && refused.Kind == dems.BadRequest: // an answer, from a version that does not know the question
			return true, true
		}
		if !wait(ctx, askAgain) { // the connection broke
			return false, false
		}
	}
}
