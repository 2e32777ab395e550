package node

import (
	"context"
	"reflect"
	"time"
	"unsafe"

	"dems"

	"github.com/hashicorp/raft"
)

// Raft returns what tests reach around the node's own checks with.
func (n *Node) Raft() *raft.Raft { return n.raft.Load() }

// Damage changes the state in memory as a broken memory module would: past every method of it.
func (n *Node) Damage() { n.state.damage() }

func (s *stateMachine) damage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := reflect.ValueOf(s.machine).Elem().FieldByName("states").Index(0).FieldByName("membership")
	*(*uint64)(unsafe.Pointer(versions.Index(1).UnsafeAddr()))++
}

// Confirm asks the voters of the node's configuration about a state that somebody else has.
func (n *Node) Confirm(ctx context.Context, atMost time.Duration, index uint64, digest dems.Digest) error {
	return n.confirm(ctx, atMost, n.state.getConfiguration().servers, index, digest, false)
}

// ConfirmOwn asks them about the node's own state.
func (n *Node) ConfirmOwn(ctx context.Context, atMost time.Duration, index uint64, digest dems.Digest) error {
	return n.confirm(ctx, atMost, n.state.getConfiguration().servers, index, digest, true)
}

// Stand has the node stand for election, as it does when the leader does not answer. It returns false if it does not follow.
func (n *Node) Stand(ctx context.Context) bool {
	r := n.raft.Load()
	return r != nil && n.stand(ctx, r, r.CurrentTerm())
}

// HangDisk makes every later write to the Raft log wait until the channel is closed.
func (n *Node) HangDisk(until <-chan struct{}) {
	hold := func() { <-until }
	n.watchdog.hold.Store(&hold)
}
