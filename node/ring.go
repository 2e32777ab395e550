package node

import (
	"context"
	"sync"

	"dems"
)

const (
	// ringBallots and ringBytes bound the recent votes that a node keeps with their results: enough for every batch that
	// a front end may still ask about. The oldest give way.
	ringBallots = 4096
	ringBytes   = 64 << 20
	// maxSubscribers is how many front ends read votes at once; more are refused.
	maxSubscribers = 256
	// subscriberVotes is how many votes wait for one reader. One that is slower is cut off and has to begin again with
	// the replay.
	subscriberVotes = 8192
)

// ballot is what this node got for one entry. It is never changed.
type ballot struct {
	vote    dems.Vote
	results []byte
}

type batchName struct{ session, number uint64 }

// ring holds the recent ballots and hands every new vote to all who read votes.
type ring struct {
	mu          sync.Mutex
	ballots     []ballot             // slot n % ringBallots holds ballot n
	first, next uint64               // the ballots held are first to next-1
	bytes       int                  // of results
	latest      map[batchName]uint64 // the last ballot for each batch
	subscribers map[*subscriber]struct{}
}

// subscriber is one reader of votes.
type subscriber struct {
	wake    chan struct{} // told when there is something new; holds one
	pending []dems.Vote
	cut     bool // it was too slow
}

func newRing() *ring {
	return &ring{
		ballots: make([]ballot, ringBallots), latest: make(map[batchName]uint64), subscribers: make(map[*subscriber]struct{}),
	}
}

// publish adds ballots in the order of their indexes.
func (r *ring) publish(ballots []ballot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range ballots {
		for r.next-r.first == ringBallots || r.bytes+len(b.results) > ringBytes && r.next > r.first {
			r.forget()
		}
		r.ballots[r.next%ringBallots] = b
		r.latest[batchName{b.vote.Session, b.vote.Batch}] = r.next
		r.bytes += len(b.results)
		r.next++
	}
	for s := range r.subscribers {
		s.push(ballots)
	}
}

// forget drops the oldest ballot.
func (r *ring) forget() {
	oldest := &r.ballots[r.first%ringBallots]
	if name := (batchName{oldest.vote.Session, oldest.vote.Batch}); r.latest[name] == r.first {
		delete(r.latest, name)
	}
	r.bytes -= len(oldest.results)
	*oldest = ballot{}
	r.first++
}

// push gives a subscriber new votes. The caller holds the ring's mutex.
func (s *subscriber) push(ballots []ballot) {
	if len(s.pending)+len(ballots) > subscriberVotes {
		s.cut, s.pending = true, nil
	}
	for i := range ballots {
		if !s.cut {
			s.pending = append(s.pending, ballots[i].vote)
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// find returns the last ballot for a batch.
func (r *ring) find(session, number uint64) (ballot, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, found := r.latest[batchName{session, number}]
	if !found {
		return ballot{}, false
	}
	return r.ballots[at%ringBallots], true
}

// size returns how many bytes of results the ring holds.
func (r *ring) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}

// subscribe adds a reader, who gets the recent votes of a session first, of session 0 all that are held.
func (r *ring) subscribe(session uint64) (*subscriber, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.subscribers) >= maxSubscribers {
		return nil, false
	}
	s := &subscriber{wake: make(chan struct{}, 1)}
	for at := r.first; at < r.next; at++ {
		if vote := r.ballots[at%ringBallots].vote; session == 0 || vote.Session == session {
			s.pending = append(s.pending, vote)
		}
	}
	s.wake <- struct{}{}
	r.subscribers[s] = struct{}{}
	return s, true
}

func (r *ring) unsubscribe(s *subscriber) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.subscribers, s)
}

// take returns what a subscriber has not got yet.
func (r *ring) take(s *subscriber) (votes []dems.Vote, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	votes, s.pending = s.pending, nil
	return votes, s.cut
}

// stream sends a session's recent votes, for session 0 all recent votes, and then all votes until ctx ends, the node stops, or send fails.
func (r *ring) stream(ctx context.Context, stopped <-chan struct{}, session uint64, send func([]dems.Vote) error) error {
	s, ok := r.subscribe(session)
	if !ok {
		return replicaError(dems.NotReady, errBusy)
	}
	defer r.unsubscribe(s)
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-stopped:
			return replicaError(dems.NotReady, errStopping)
		}
		votes, cut := r.take(s)
		if cut {
			return replicaError(dems.NotReady, errTooSlow)
		}
		if len(votes) > 0 {
			if err := send(votes); err != nil {
				return err
			}
		}
	}
}
