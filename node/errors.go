package node

import (
	"errors"

	"dems"

	"github.com/hashicorp/raft"
)

var (
	// ErrKilled is what Run returns after Kill.
	ErrKilled = errors.New("killed")

	errStopping   = errors.New("the node is stopping")
	errStarting   = errors.New("the node is starting")
	errFailed     = errors.New("the node has failed")
	errCatchingUp = errors.New("the node has still to catch up with what it knew before it was started")
	errBehind     = errors.New("the node has not applied the index in time")
	errBusy       = errors.New("too many requests are waiting")
	errNotApplied = errors.New("the node has not applied the batch, or has forgotten it")
	errTooSlow    = errors.New("votes were read too slowly: subscribe again")
	errStaleLog   = errors.New("the end of this node's log was never committed and contradicts the snapshot from the leader: " +
		"start the node again, which removes it")
	errNotProposed = errors.New("not proposed")
	errStalled     = errors.New("a write to this node's disk hangs")
)

func replicaError(kind dems.ReplicaErrorKind, err error) error {
	return &dems.ReplicaError{Kind: kind, Err: err}
}

// raftError tells what is known after Raft refused or lost an entry. It is the one table of Raft's errors: those after
// which the entry is certainly not in the log. Everything else, ErrLeadershipLost, ErrRaftShutdown and timeouts among it,
// is an unknown outcome: the entry may be in the log of another node and be committed later.
func raftError(err error, leader dems.NodeID) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return &dems.ReplicaError{Kind: dems.NotLeader, Leader: leader, Err: err}
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, errNotProposed):
		return &dems.ReplicaError{Kind: dems.NotApplied, Err: err}
	}
	return &dems.ReplicaError{Kind: dems.UnknownOutcome, Err: err}
}
