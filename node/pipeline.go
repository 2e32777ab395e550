package node

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// raftTransport is the transport of hashicorp/raft with four changes.
//
// Its pipelines are mended. Raft stops consuming the answers of a pipeline at the first one that is a refusal, and closes
// the pipeline when its sending side notices. The sending side may send more before it does; with nobody to take the answers
// it then blocks for ever, the follower gets heartbeats and nothing else for as long as this leader leads, and Shutdown
// never returns.
//
// It sends nothing that a leader sends while the disk hangs. Raft's main loop is stuck in the write then, but its goroutines
// for each follower would go on, and with them the followers' patience. Votes need no such care: they come from the main
// loop, after a write.
//
// Votes are asked for again where a connection that was kept for later turns out to be dead, as after a partition. Raft asks
// once, and if the only vote that it could get is lost that way, it waits for its timers.
//
// And Raft takes its messages from a channel of the node's, so that the node can have it stand for election (takeOver).
type raftTransport struct {
	*raft.NetworkTransport
	stalled  func() bool
	messages chan raft.RPC
}

func newRaftTransport(inner *raft.NetworkTransport, stalled func() bool) *raftTransport {
	return &raftTransport{NetworkTransport: inner, stalled: stalled, messages: make(chan raft.RPC)}
}

// Consumer implements raft.Transport.
func (t *raftTransport) Consumer() <-chan raft.RPC { return t.messages }

// relay hands on what peers send, until the node has stopped. Heartbeats do not come this way.
func (t *raftTransport) relay(stopped <-chan struct{}) {
	for {
		var message raft.RPC
		select {
		case message = <-t.NetworkTransport.Consumer():
		case <-stopped:
			return
		}
		select {
		case t.messages <- message:
		case <-stopped: // its sender is told by the transport's end
			return
		}
	}
}

// AppendEntries implements raft.Transport.
func (t *raftTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest,
	response *raft.AppendEntriesResponse,
) error {
	if t.stalled() {
		return errStalled
	}
	return t.NetworkTransport.AppendEntries(id, target, request, response)
}

// voteRetry is for how long a vote is asked for again. A connection that is dead says so at once when it is used.
const voteRetry = 250 * time.Millisecond

// RequestVote implements raft.Transport.
func (t *raftTransport) RequestVote(id raft.ServerID, target raft.ServerAddress, request *raft.RequestVoteRequest,
	response *raft.RequestVoteResponse,
) error {
	return again(func() error { return t.NetworkTransport.RequestVote(id, target, request, response) })
}

// RequestPreVote implements raft.WithPreVote.
func (t *raftTransport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, request *raft.RequestPreVoteRequest,
	response *raft.RequestPreVoteResponse,
) error {
	return again(func() error { return t.NetworkTransport.RequestPreVote(id, target, request, response) })
}

// again asks for a vote until all connections that were kept have been used, unless that takes long. To ask twice is as good as
// once.
func again(ask func() error) error {
	began := time.Now()
	for kept := raftConnections; ; kept-- {
		if err := ask(); err == nil || kept == 0 || time.Since(began) >= voteRetry {
			return err
		}
	}
}

// InstallSnapshot implements raft.Transport.
func (t *raftTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, request *raft.InstallSnapshotRequest,
	response *raft.InstallSnapshotResponse, snapshot io.Reader,
) error {
	if t.stalled() {
		return errStalled
	}
	return t.NetworkTransport.InstallSnapshot(id, target, request, response, snapshot)
}

// dialled tells the stream layer which incarnation of a node is meant. It implements raft.ServerAddressProvider.
type dialled struct{}

// ServerAddr implements raft.ServerAddressProvider.
func (dialled) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raft.ServerAddress(id), nil
}

// EncodePeer implements raft.Transport. In messages a server's address is the node's ID, whatever is dialled.
func (t *raftTransport) EncodePeer(_ raft.ServerID, address raft.ServerAddress) []byte {
	return []byte(address)
}

// AppendEntriesPipeline implements raft.Transport.
func (t *raftTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	if t.stalled() {
		return nil, errStalled
	}
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return newPipeline(inner, t.stalled), nil
}

// maxUnconsumed is how many answers wait for Raft. There are more than one or two only when it has stopped consuming; at
// the limit the pipeline closes itself, which ends the sending side as a broken connection does.
const maxUnconsumed = 64

// pipeline takes every answer from another pipeline at once, so that its sending side never waits for the consuming one.
type pipeline struct {
	raft.AppendPipeline
	stalled func() bool
	answers chan raft.AppendFuture
	closing sync.Once
	closed  chan struct{}
	running sync.WaitGroup // forward
}

func newPipeline(inner raft.AppendPipeline, stalled func() bool) *pipeline {
	p := &pipeline{
		AppendPipeline: inner, stalled: stalled, answers: make(chan raft.AppendFuture), closed: make(chan struct{}),
	}
	p.running.Go(p.forward)
	return p
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.stalled() {
		return nil, errStalled
	}
	return p.AppendPipeline.AppendEntries(request, response)
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.closing.Do(func() { close(p.closed) })
	err := p.AppendPipeline.Close()
	p.running.Wait()
	return err
}

// forward hands answers on in their order until the pipeline is closed.
func (p *pipeline) forward() {
	var waiting []raft.AppendFuture
	for {
		var first raft.AppendFuture
		var consumer chan<- raft.AppendFuture // nil, so never ready, while nothing waits
		if len(waiting) > 0 {
			first, consumer = waiting[0], p.answers
		}
		select {
		case answer := <-p.AppendPipeline.Consumer():
			if waiting = append(waiting, answer); len(waiting) > maxUnconsumed {
				_ = p.AppendPipeline.Close() // Close closes it again and returns the error
				return
			}
		case consumer <- first:
			waiting = waiting[1:]
		case <-p.closed:
			return
		}
	}
}
