package node

import (
	"context"
	"fmt"

	"dems"
	"dems/transport"

	"github.com/hashicorp/raft"
)

// mayForward tells whether a server may have an entry ordered by way of another one. A front end may what it may propose itself,
// and a node hands on what front ends bring: their right has been checked where they asked. Besides, the node has to be a voter.
func mayForward(role transport.Role, name string, entry *dems.Entry) bool {
	if role == transport.RoleNode {
		return entry.Kind == dems.BatchEntry || entry.Kind == dems.RegisterFrontEndEntry
	}
	return mayPropose(role, name, entry)
}

// Forward implements transport.Handler.
func (n *Node) Forward(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	return n.forward(ctx, entry, permitAny)
}

// forward is Forward for an entry that is permitted.
func (n *Node) forward(ctx context.Context, entry []byte, permit func(*dems.Entry) error) (dems.BatchReply, error) {
	r, err := n.running()
	if err != nil {
		return dems.BatchReply{}, replicaError(dems.NotApplied, err)
	}
	decoded, err := decodePermitted(entry, permit)
	if err != nil {
		return dems.BatchReply{}, err
	}
	leader := n.peers[n.leader()]
	if r.State() == raft.Leader || leader == nil {
		return n.order(ctx, entry, permit)
	}
	select {
	case n.forwards <- struct{}{}:
		defer func() { <-n.forwards }()
	default:
		return dems.BatchReply{}, replicaError(dems.NotApplied, errBusy)
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.WaitTimeout)
	defer cancel()
	defer context.AfterFunc(n.work, cancel)()
	reply, err := leader.Forward(ctx, entry)
	if err != nil {
		return dems.BatchReply{}, err
	}
	own, err := n.ownResults(ctx, &decoded, reply.Vote.Index)
	if err != nil { // the leader says that it is applied
		return dems.BatchReply{}, replicaError(dems.UnknownOutcome, err)
	}
	return own, nil
}

// ownResults returns what this node got for an entry that a front end brought, once it has applied it.
func (n *Node) ownResults(ctx context.Context, entry *dems.Entry, index uint64) (dems.BatchReply, error) {
	if err := n.waitApplied(ctx, index); err != nil {
		return dems.BatchReply{}, err
	}
	if entry.Kind == dems.RegisterFrontEndEntry {
		return n.Results(ctx, entry.Registration.Session, 0)
	}
	return n.Results(ctx, entry.Batch.Session, entry.Batch.Number)
}

// Forward implements transport.Handler. What a node asks for is ordered here or nowhere, so no entry goes in circles.
func (s served) Forward(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	role, name, remote := transport.Caller(ctx)
	permit := func(decoded *dems.Entry) error {
		if remote && !mayForward(role, name, decoded) {
			return fmt.Errorf("the %s %s may not have an entry of kind %d forwarded, or not for another server", role, name, decoded.Kind)
		}
		if _, votes := s.node.memberID(dems.NodeID(name)); role == transport.RoleNode && !votes {
			return fmt.Errorf("the node %s has no vote, so it hands nothing on", name)
		}
		return nil
	}
	return held(ctx, s, func() (dems.BatchReply, error) {
		if role == transport.RoleNode {
			return s.node.order(ctx, entry, permit)
		}
		return s.node.forward(ctx, entry, permit)
	})
}
