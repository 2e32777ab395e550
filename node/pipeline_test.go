package node

import (
	"errors"
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
