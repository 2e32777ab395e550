package node

import (
	"sync"

	"github.com/hashicorp/raft"
)

// raftTransport is the transport of hashicorp/raft with its pipelines mended. Raft stops consuming the answers of a
// pipeline at the first one that is a refusal, and closes the pipeline when its sending side notices. The sending side may
// send more before it does; with nobody to take the answers it then blocks for ever, the follower gets heartbeats and
// nothing else for as long as this leader leads, and Shutdown never returns.
type raftTransport struct {
	*raft.NetworkTransport
}

// dialled tells the stream layer which incarnation of a node is meant. It implements raft.ServerAddressProvider.
type dialled struct{}

// ServerAddr implements raft.ServerAddressProvider.
func (dialled) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raft.ServerAddress(id), nil
}

// EncodePeer implements raft.Transport. In messages a server's address is the node's ID, whatever is dialled.
func (t raftTransport) EncodePeer(_ raft.ServerID, address raft.ServerAddress) []byte {
	return []byte(address)
}

// AppendEntriesPipeline implements raft.Transport.
func (t raftTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return newPipeline(inner), nil
}

// maxUnconsumed is how many answers wait for Raft. There are more than one or two only when it has stopped consuming; at
// the limit the pipeline closes itself, which ends the sending side as a broken connection does.
const maxUnconsumed = 64

// pipeline takes every answer from another pipeline at once, so that its sending side never waits for the consuming one.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	closing sync.Once
	closed  chan struct{}
	running sync.WaitGroup // forward
}

func newPipeline(inner raft.AppendPipeline) *pipeline {
	p := &pipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	p.running.Go(p.forward)
	return p
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
