package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"dems"
	"dems/transport/rpc"
)

// lastVotesTimeout is how long a reader has to take the last votes of a stream that the node ends.
const lastVotesTimeout = 2 * time.Second

// writerKey is where the HTTP handler leaves the *http.ResponseController of a stream.
type writerKey struct{}

// voteQueue gathers votes while a message is being sent: however slow the reader, the node does not wait for it, and the
// slower it is, the more votes share a message.
type voteQueue struct {
	wake chan struct{} // holds one token when there may be something to send

	mutex   sync.Mutex
	pending []dems.Vote
	closed  bool
}

// streamVotes runs the handler and sends what it hands over. It returns when both are done.
func streamVotes(ctx context.Context, handler Handler, session uint64, send func(*rpc.VotesReply) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := &voteQueue{wake: make(chan struct{}, 1)}
	sent := make(chan error, 1)
	go func() {
		defer cancel() // a reader that is gone ends the handler
		sent <- queue.drain(send)
	}()
	finish := func() error {
		if controller, ok := ctx.Value(writerKey{}).(*http.ResponseController); ok {
			controller.SetWriteDeadline(time.Now().Add(lastVotesTimeout))
		}
		queue.close()
		return <-sent
	}
	finished := false
	defer func() { // where the handler panicked
		if !finished {
			finish()
		}
	}()
	err := handler.Votes(ctx, session, queue.add)
	finished = true
	return errors.Join(err, finish())
}

// add copies votes into the queue. It never blocks.
func (q *voteQueue) add(votes []dems.Vote) error {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if q.closed {
		return errClosed
	}
	if len(q.pending)+len(votes) > maxPendingVotes {
		return fmt.Errorf("the reader is too slow: %d votes wait for it", len(q.pending))
	}
	q.pending = append(q.pending, votes...)
	q.signal()
	return nil
}

// close lets drain return when everything has been sent.
func (q *voteQueue) close() {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.closed = true
	q.signal()
}

func (q *voteQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// drain sends what is added until the queue is closed and empty, or sending fails.
func (q *voteQueue) drain(send func(*rpc.VotesReply) error) error {
	var votes []dems.Vote
	for {
		q.mutex.Lock()
		votes, q.pending = q.pending, votes[:0]
		closed := q.closed
		q.mutex.Unlock()
		for rest := votes; len(rest) > 0; {
			count := min(len(rest), maxVotesPerMessage)
			if err := send(encodeVotes(rest[:count])); err != nil {
				q.close()
				return err
			}
			rest = rest[count:]
		}
		if len(votes) == 0 && closed {
			return nil
		}
		if len(votes) == 0 {
			<-q.wake
		}
	}
}

func encodeVotes(votes []dems.Vote) *rpc.VotesReply {
	message := &rpc.VotesReply{Votes: make([]*rpc.Vote, len(votes))}
	for i := range votes {
		message.Votes[i] = encodeVote(&votes[i])
	}
	return message
}
