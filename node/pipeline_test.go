package node

import (
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// startPipeline connects a transport with mended pipelines to one that answers every message with the index
// that it names.
func startPipeline(t *testing.T) raft.AppendPipeline {
	t.Helper()
	open := func() *raft.NetworkTransport {
		transport, err := raft.NewTCPTransport("127.0.0.1:0", nil, 2, 10*time.Second, nil)
		if err != nil {
			t.Fatal(err)
		}
		return transport
	}
	leader, follower := open(), open()
	stop := make(chan struct{})
	var answering sync.WaitGroup
	answering.Go(func() {
		for {
			select {
			case request := <-follower.Consumer():
				index := request.Command.(*raft.AppendEntriesRequest).PrevLogEntry
				request.Respond(&raft.AppendEntriesResponse{LastLog: index, Success: index != refusedIndex}, nil)
			case <-stop:
				return
			}
		}
	})
	pipeline, err := newRaftTransport(leader, func() bool { return false }).AppendEntriesPipeline("n2.1", follower.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(pipeline.Close(), leader.Close(), follower.Close()); err != nil {
			t.Error(err)
		}
		close(stop)
		answering.Wait()
	})
	return pipeline
}

const refusedIndex = 1000

func appendMessage(p raft.AppendPipeline, index uint64) error {
	_, err := p.AppendEntries(&raft.AppendEntriesRequest{PrevLogEntry: index}, new(raft.AppendEntriesResponse))
	return err
}

// TestPipelineNeverBlocksItsSender sends on although nobody consumes answers, as Raft may after a refusal: hashicorp/raft's
// own pipeline blocks at the third message, for ever.
func TestPipelineNeverBlocksItsSender(t *testing.T) {
	p := startPipeline(t)
	sent := make(chan int, 1)
	go func() { // ends at the first error, received below
		count := 0
		for count <= 10*maxUnconsumed && appendMessage(p, refusedIndex) == nil {
			count++
		}
		sent <- count
	}()
	select {
	case count := <-sent:
		if count < maxUnconsumed || count > 10*maxUnconsumed {
			t.Errorf("the pipeline took %d messages, want at least %d and an error soon after", count, maxUnconsumed)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the sender is blocked")
	}
}

// TestPipelineKeepsOrder consumes answers late: all are there, in the order of the messages.
func TestPipelineKeepsOrder(t *testing.T) {
	p := startPipeline(t)
	for round := range uint64(5) {
		for index := range uint64(maxUnconsumed / 2) {
			if err := appendMessage(p, round*100+index); err != nil {
				t.Fatal(err)
			}
		}
		for index := range uint64(maxUnconsumed / 2) {
			answer := <-p.Consumer()
			if got := answer.Response().LastLog; got != round*100+index || !answer.Response().Success {
				t.Fatalf("answer %d is %+v", round*100+index, answer.Response())
			}
		}
	}
}

// TestPipelineCloses closes a pipeline with answers that nobody took, twice.
func TestPipelineCloses(t *testing.T) {
	p := startPipeline(t)
	if err := appendMessage(p, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := appendMessage(p, 2); err == nil {
		t.Error("a closed pipeline takes a message")
	}
}

// TestVotesSurviveDeadConnections: the follower is gone and back, and all connections that were kept to it are dead.
func TestVotesSurviveDeadConnections(t *testing.T) {
	open := func(address string) *raft.NetworkTransport {
		transport, err := raft.NewTCPTransport(address, nil, raftConnections, 10*time.Second, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return transport
	}
	candidate, follower := open("127.0.0.1:0"), open("127.0.0.1:0")
	defer candidate.Close()
	address := follower.LocalAddr()
	var answering sync.WaitGroup
	answer := func(follower *raft.NetworkTransport) (stop chan struct{}) {
		stop = make(chan struct{})
		answering.Go(func() {
			for {
				select {
				case request := <-follower.Consumer():
					if _, pre := request.Command.(*raft.RequestPreVoteRequest); pre {
						request.Respond(&raft.RequestPreVoteResponse{Granted: true}, nil)
					} else {
						request.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
					}
				case <-stop:
					follower.Close()
					return
				}
			}
		})
		return stop
	}
	mended := newRaftTransport(candidate, func() bool { return false })
	ask := func() bool {
		vote, preVote := raft.RequestVoteResponse{}, raft.RequestPreVoteResponse{}
		err := errors.Join(mended.RequestVote("n2.1", address, &raft.RequestVoteRequest{}, &vote),
			mended.RequestPreVote("n2.1", address, &raft.RequestPreVoteRequest{}, &preVote))
		if err != nil || !vote.Granted || !preVote.Granted {
			t.Error(err)
		}
		return err == nil
	}
	stop := answer(follower)
	var several sync.WaitGroup // as many connections as are kept
	for range raftConnections {
		several.Go(func() { ask() })
	}
	several.Wait()
	for range 3 {
		close(stop)
		answering.Wait()
		stop = answer(open(string(address)))
		if !ask() {
			break
		}
	}
	close(stop)
	answering.Wait()
	tries := 0
	if err := again(func() error { tries++; return errStalled }); !errors.Is(err, errStalled) || tries != raftConnections+1 {
		t.Errorf("%v after %d tries", err, tries)
	}
}
