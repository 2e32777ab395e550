package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dems"

	"github.com/hashicorp/raft"
)

// enqueueTimeout bounds how long a proposal waits for Raft to take it. After it the proposal is certainly not in the log.
const enqueueTimeout = time.Second

// Propose implements transport.Handler. It has the entry ordered and returns what this node got for it. The entry must
// not be changed afterwards. If ctx ends first the outcome is unknown: the proposal goes on.
func (n *Node) Propose(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	return n.order(ctx, entry, permitAny)
}

// permitAny permits every entry: who calls within the process is trusted.
func permitAny(*dems.Entry) error { return nil }

// order is Propose for an entry that is permitted.
func (n *Node) order(ctx context.Context, entry []byte, permit func(*dems.Entry) error) (dems.BatchReply, error) {
	r, err := n.running()
	if err != nil {
		return dems.BatchReply{}, replicaError(dems.NotApplied, err)
	}
	if r.State() != raft.Leader {
		return dems.BatchReply{}, raftError(raft.ErrNotLeader, n.leader())
	}
	if n.watchdog.stalled() {
		return dems.BatchReply{}, replicaError(dems.NotApplied, errStalled)
	}
	if _, err := decodePermitted(entry, permit); err != nil {
		return dems.BatchReply{}, err
	}
	type outcome struct {
		reply dems.BatchReply
		err   error
	}
	done := make(chan outcome, 1)
	err = n.enqueue(func() {
		reply, err := n.apply(r, entry)
		done <- outcome{reply, err}
	})
	if err != nil {
		return dems.BatchReply{}, err
	}
	select {
	case got := <-done:
		return got.reply, got.err
	case <-ctx.Done():
		return dems.BatchReply{}, replicaError(dems.UnknownOutcome, ctx.Err())
	}
}

// decodePermitted decodes an entry that is to be ordered: what is in the log and cannot be decoded stops every node.
func decodePermitted(entry []byte, permit func(*dems.Entry) error) (dems.Entry, error) {
	decoded, err := dems.DecodeEntry(entry)
	if err == nil {
		err = permit(&decoded)
	}
	if err != nil {
		return dems.Entry{}, replicaError(dems.BadRequest, err)
	}
	return decoded, nil
}

// enqueue runs what waits for one of Raft's futures on a goroutine of its own, for futures know no context. It fails if
// too many are waiting.
func (n *Node) enqueue(do func()) error {
	select {
	case n.proposals <- struct{}{}:
	default:
		return replicaError(dems.NotApplied, errBusy)
	}
	started := n.calls.start(func() {
		defer func() { <-n.proposals }()
		do()
	})
	if !started {
		<-n.proposals
		return replicaError(dems.NotApplied, errStopping)
	}
	return nil
}

// apply has Raft append and commit an entry and waits until it is applied here.
func (n *Node) apply(r *raft.Raft, entry []byte) (dems.BatchReply, error) {
	n.announcer.begin()
	future := r.Apply(entry, enqueueTimeout)
	if err := future.Error(); err != nil {
		n.announcer.end(notice{})
		return dems.BatchReply{}, raftError(err, n.leader())
	}
	got, ok := future.Response().(*response)
	if !ok {
		n.announcer.end(notice{})
		return dems.BatchReply{}, replicaError(dems.UnknownOutcome, errFailed)
	}
	n.announcer.end(notice{got.ballot.vote.Index, got.term})
	if got.refused != "" {
		return dems.BatchReply{}, replicaError(dems.BadRequest, errors.New(got.refused))
	}
	return dems.BatchReply{Vote: got.ballot.vote, Results: got.ballot.results}, nil
}

// ReadIndex implements transport.Handler. It returns the index of an entry such that who has applied it knows everything
// that was acknowledged to anybody before the call. Only indexes of entries that the state machine sees are returned, so
// that they can be waited for. A barrier that commits proves that this node leads and has applied all that came before.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	r, err := n.running()
	if err != nil {
		return 0, replicaError(dems.NotApplied, err)
	}
	if r.State() != raft.Leader {
		return 0, raftError(raft.ErrNotLeader, n.leader())
	}
	done := make(chan error, 1)
	if err := n.enqueue(func() { done <- r.Barrier(enqueueTimeout).Error() }); err != nil {
		return 0, err
	}
	select {
	case err := <-done:
		if err != nil {
			return 0, raftError(err, n.leader())
		}
		return n.state.applied.get(), nil
	case <-ctx.Done():
		return 0, replicaError(dems.NotReady, ctx.Err())
	}
}

// Transfer implements transport.Handler. It returns when this node leads no more, or nothing came of it within an
// election timeout. A transfer to the leader itself is done already.
func (n *Node) Transfer(ctx context.Context, to dems.NodeID) error {
	r, err := n.running()
	if err != nil {
		return replicaError(dems.NotApplied, err)
	}
	if r.State() != raft.Leader {
		return raftError(raft.ErrNotLeader, n.leader())
	}
	if to == n.config.ID {
		return nil
	}
	hand := r.LeadershipTransfer
	if to != "" {
		target, member := n.memberID(to)
		if !member {
			return replicaError(dems.BadRequest, fmt.Errorf("node %q is no voter of the cluster", to))
		}
		hand = func() raft.Future { return r.LeadershipTransferToServer(target, raft.ServerAddress(to)) }
	}
	done := make(chan error, 1)
	if err := n.enqueue(func() { done <- hand().Error() }); err != nil {
		return err
	}
	select {
	case err := <-done:
		if err != nil {
			return raftError(err, n.leader())
		}
		return nil
	case <-ctx.Done():
		return replicaError(dems.UnknownOutcome, ctx.Err())
	}
}
