package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dems"
)

// askTimeout bounds one question to another node.
const askTimeout = 2 * time.Second

// register proposes this node's registration until a majority has accepted it. A majority that refuses it is an error:
// the node was started with other cities and would be wrong about everything. But for a node whose time is over: it will
// learn so.
func (n *Node) register(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		registration := dems.Registration{
			ID: string(n.config.ID), Address: n.config.Address, Version: n.config.Version,
			Time: now(), Incarnation: n.folder.Marker.Incarnation,
			Cities: n.config.Cities.String(),
		}
		accepted, err := n.propose(ctx, registration)
		if accepted {
			n.logger.Info("registered", "address", registration.Address)
			return nil
		}
		if errors.Is(err, errRefused) && ctx.Err() == nil && !n.isOutlived(ctx) {
			return err
		}
		n.logger.Debug("registration", "error", err)
		pause(ctx, attempt)
	}
	return nil
}

// errRefused means that a majority of the nodes does not accept this one.
var errRefused = errors.New("the cluster refuses this node")

// propose proposes a registration once and asks all nodes what became of it. No single node is believed: the leader
// itself may be the one that was started with other cities.
func (n *Node) propose(ctx context.Context, registration dems.Registration) (accepted bool, err error) {
	leader := n.replica(n.leader())
	if leader == nil {
		return false, errors.New("no leader is known")
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := leader.Propose(asking, dems.AppendEntry(nil, &dems.Entry{
		Kind: dems.RegisterNodeEntry, Registration: registration,
	}))
	index := reply.Vote.Index
	refusal, ok := errors.AsType[*dems.ReplicaError](err)
	refused := ok && refusal.Kind == dems.BadRequest
	if refused { // it is in the log nevertheless, at an index that was not told
		index, err = leader.ReadIndex(asking)
	}
	if err != nil {
		return false, err
	}
	accepting, refusing := n.registered(ctx, registration, index)
	switch {
	case accepting >= n.config.majority():
		return true, nil
	case refusing >= n.config.majority():
		if refused {
			return false, fmt.Errorf("%w: %w", errRefused, refusal.Err)
		}
		return false, fmt.Errorf("%w: %d of %d nodes did not accept its registration with the cities %s: "+
			"start every node with the same", errRefused, refusing, len(n.config.Peers), n.config.Cities)
	}
	return false, fmt.Errorf("%d nodes have accepted the registration, %d have not", accepting, refusing)
}

// registered asks every node, this one included, whether its registry has a registration once an index is applied there.
func (n *Node) registered(ctx context.Context, registration dems.Registration, index uint64) (accepting, refusing int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, len(n.config.Peers))
	for id := range n.config.Peers {
		go func() {
			registry, err := n.registryOf(ctx, id, index)
			if err == nil && !slices.ContainsFunc(registry.Nodes, func(r dems.Registration) bool {
				return r.ID == registration.ID && r.Incarnation == registration.Incarnation && r.Time.Equal(registration.Time)
			}) {
				err = errRefused
			}
			answers <- err
		}()
	}
	for range n.config.Peers {
		switch err := <-answers; {
		case err == nil:
			accepting++
		case errors.Is(err, errRefused):
			refusing++
		}
		if max(accepting, refusing) >= n.config.majority() {
			cancel() // the others need not answer
		}
	}
	return accepting, refusing
}

// registryOf reads the registry of one node once it has applied an index.
func (n *Node) registryOf(ctx context.Context, id dems.NodeID, index uint64) (dems.Registry, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := n.replica(id).Query(ctx, dems.QueryBatch{MinIndex: index, Queries: []dems.Query{{Kind: dems.RegistryQuery}}})
	if err != nil {
		return dems.Registry{}, err
	}
	if len(reply.Answers) != 1 {
		return dems.Registry{}, fmt.Errorf("node %s gave %d answers to one query", id, len(reply.Answers))
	}
	return dems.DecodeRegistry(reply.Answers[0].Result)
}
