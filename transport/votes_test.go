package transport

import (
	"context"
	"errors"
	"strings"
	"testing"

	"dems"
	"dems/transport/rpc"
)

var errEnough = errors.New("enough")

func votesFrom(first, count int) []dems.Vote {
	votes := make([]dems.Vote, count)
	for i := range votes {
		votes[i] = dems.Vote{Node: "n3", Index: uint64(first + i), Session: 1, Batch: 1, Results: dems.Digest{byte(i)}}
	}
	return votes
}

func TestVotesArriveInOrder(t *testing.T) {
	const total = 10 * maxVotesPerMessage
	ended := make(chan struct{})
	_, replica := pair(t, &stub{votes: func(ctx context.Context, session uint64, send func([]dems.Vote) error) error {
		defer close(ended)
		if session != 1<<63 {
			return errors.New("wrong session")
		}
		reused := make([]dems.Vote, 2*maxVotesPerMessage) // send copies
		for first := 0; first < total; {
			count := copy(reused, votesFrom(first, min(1+first, len(reused), total-first)))
			if err := send(reused[:count]); err != nil {
				return err
			}
			first += count
		}
		<-ctx.Done()
		return ctx.Err()
	}})
	next := uint64(0)
	err := replica.Votes(t.Context(), 1<<63, func(votes []dems.Vote) error {
		for _, vote := range votes {
			if vote.Index != next || vote.Node != "n1" {
				t.Errorf("got vote %d of %s, want %d of n1", vote.Index, vote.Node, next)
			}
			next++
		}
		if next == total {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("after %d votes: %v", next, err)
	}
	<-ended // a reader that leaves ends the handler
}

func TestVotesEndWithTheContext(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	_, replica := pair(t, &stub{votes: func(ctx context.Context, _ uint64, _ func([]dems.Vote) error) error {
		defer close(ended)
		close(started)
		<-ctx.Done()
		return ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	err := replica.Votes(ctx, 1, func([]dems.Vote) error { return errors.New("no votes were sent") })
	if got := kind(t, err, dems.UnknownOutcome); !errors.Is(got, context.Canceled) {
		t.Errorf("got %v", got)
	}
	<-ended
}

func TestVotesThatTheNodeEnds(t *testing.T) {
	answers := make(chan error, 1)
	_, replica := pair(t, &stub{votes: func(_ context.Context, _ uint64, send func([]dems.Vote) error) error {
		return errors.Join(send(votesFrom(0, 3)), <-answers)
	}})
	for _, answer := range []error{nil, &dems.ReplicaError{Kind: dems.NotReady}} {
		answers <- answer
		received := 0
		err := replica.Votes(t.Context(), 1, func(votes []dems.Vote) error { received += len(votes); return nil })
		want := dems.UnknownOutcome
		if answer != nil {
			want = dems.NotReady
		}
		kind(t, err, want)
		if received != 3 {
			t.Errorf("%d votes arrived before the end, want 3", received)
		}
	}
}

func TestASlowReaderIsEnded(t *testing.T) {
	overflow := make(chan error, 1)
	_, replica := pair(t, &stub{votes: func(ctx context.Context, _ uint64, send func([]dems.Vote) error) error {
		for {
			if err := send(make([]dems.Vote, maxVotesPerMessage)); err != nil {
				overflow <- err
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}})
	err := replica.Votes(t.Context(), 1, func([]dems.Vote) error {
		if err := <-overflow; !strings.Contains(err.Error(), "too slow") {
			t.Errorf("the handler got %v", err)
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Error(err)
	}
}

// TestVotesShareMessages drives the queue itself: what is added during a send goes out together.
func TestVotesShareMessages(t *testing.T) {
	queue := &voteQueue{wake: make(chan struct{}, 1)}
	sending, proceed := make(chan int), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- queue.drain(func(message *rpc.VotesReply) error {
			sending <- len(message.Votes)
			<-proceed
			return nil
		})
	}()
	queue.add(votesFrom(0, 1))
	if got := <-sending; got != 1 {
		t.Errorf("the first message has %d votes", got)
	}
	for i := range 10 {
		queue.add(votesFrom(i, 2))
	}
	proceed <- struct{}{}
	if got := <-sending; got != 20 {
		t.Errorf("the second message has %d votes, want 20", got)
	}
	queue.close()
	if err := queue.add(votesFrom(0, 1)); err == nil {
		t.Error("a closed queue took votes")
	}
	proceed <- struct{}{}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAFailedSendEndsTheQueue(t *testing.T) {
	queue := &voteQueue{wake: make(chan struct{}, 1)}
	queue.add(votesFrom(0, 1))
	if err := queue.drain(func(*rpc.VotesReply) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Error(err)
	}
	if err := queue.add(votesFrom(0, 1)); err == nil {
		t.Error("the queue goes on")
	}
}
