package frontend

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"dems"
)

// What operators ask and do when something is wrong: what happened, replace a node, make one misbehave for a drill.

// Incidents implements Cluster.
func (c *Core) Incidents(ctx context.Context, from uint64) ([]dems.Incident, error) {
	query := dems.Query{Kind: dems.IncidentsQuery, From: from}
	encoded, _, err := c.reader.read(ctx, query)
	for errors.Is(err, errUndecided) { // incidents are few, so nodes meet soon or there is no majority
		if !pause(ctx, nil, 10*retryPause) {
			return nil, &dems.Error{Code: dems.Unavailable}
		}
		encoded, _, err = c.reader.read(ctx, query)
	}
	if err != nil {
		return nil, err
	}
	incidents, err := dems.DecodeIncidents(encoded)
	if err != nil {
		c.config.Logger.Error("the nodes' incidents cannot be read", "error", err)
		return nil, &dems.Error{Code: dems.Internal}
	}
	return incidents, nil
}

// Replace implements Cluster. Whoever leads is asked until one certainly took the request or refused it. An outcome that is
// not known is not asked for again: once the first replacement is over, that would be a second one.
func (c *Core) Replace(ctx context.Context, id dems.NodeID) error {
	if _, err := c.nodeCalled(ctx, id); err != nil {
		return err
	}
	for {
		view, changed := c.members.watch()
		if view.leader != nil {
			err := view.leader.replica.Replace(ctx, id)
			if err == nil {
				c.members.refresh()
				return nil
			}
			c.config.Logger.Warn("replace a node", "id", id, "leader", view.leader.name(), "error", err)
			switch kind, reason := refusal(err); kind {
			case dems.BadRequest:
				return &dems.Error{Code: dems.Unavailable, Detail: fmt.Sprintf("Node %s cannot be replaced now: %s.", id, reason)}
			case dems.UnknownOutcome:
				return &dems.Error{Code: dems.Indeterminate, Detail: fmt.Sprintf(
					"It is not known whether node %s will be replaced; look at GET /v1/cluster before you ask again.", id)}
			}
			c.proposer.learn(view.leader, way{}, err)
		}
		if !pause(ctx, changed, 10*retryPause) || c.reader.isEnded() {
			return &dems.Error{Code: dems.Unavailable, Detail: fmt.Sprintf(
				"Node %s was not replaced because no leader answers; look at GET /v1/cluster and try again.", id)}
		}
	}
}

// Inject implements Cluster.
func (c *Core) Inject(ctx context.Context, id dems.NodeID, fault dems.Fault) error {
	n, err := c.nodeCalled(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	if err = n.replica.Inject(ctx, fault); err == nil {
		return nil
	}
	switch kind, reason := refusal(err); kind {
	case dems.BadRequest:
		return &dems.Error{Code: dems.NotFound, Detail: fmt.Sprintf("Node %s takes no faults: %s.", id, reason)}
	case dems.UnknownOutcome:
		return &dems.Error{Code: dems.Indeterminate, Detail: fmt.Sprintf(
			"Node %s did not answer in time, so the fault may be there or not; end all faults before you ask again.", id)}
	}
	return &dems.Error{Code: dems.Unavailable, Detail: fmt.Sprintf("Node %s does not answer; see that it runs.", id)}
}

// EndFaults implements Cluster. A node that cannot be reached is passed over: mostly its process has ended, and its faults
// with it.
func (c *Core) EndFaults(ctx context.Context) error {
	view, err := c.reader.awaitVoters(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	nodes := view.distinct()
	failures := make([]error, len(nodes))
	var group sync.WaitGroup
	for i, n := range nodes {
		group.Go(func() { failures[i] = n.replica.Inject(ctx, dems.Fault{}) })
	}
	group.Wait()
	ended, refused := 0, error(nil)
	for i, failure := range failures {
		if failure == nil {
			ended++
			continue
		}
		switch kind, reason := refusal(failure); kind {
		case dems.BadRequest:
			refused = &dems.Error{Code: dems.NotFound, Detail: fmt.Sprintf("Node %s takes no faults: %s.", nodes[i].name(), reason)}
		case dems.UnknownOutcome:
			return &dems.Error{Code: dems.Indeterminate, Detail: fmt.Sprintf(
				"Node %s did not answer in time, so a fault may still be there; end all faults again.", nodes[i].name())}
		}
	}
	switch {
	case ended > 0:
		return nil
	case refused != nil:
		return refused
	}
	return &dems.Error{Code: dems.Unavailable, Detail: "No node answers; see that they run."}
}

// nodeCalled returns the node with an ID, once it is known who the nodes are.
func (c *Core) nodeCalled(ctx context.Context, id dems.NodeID) (*node, error) {
	view, err := c.reader.awaitVoters(ctx)
	if err != nil {
		return nil, err
	}
	n := view.find(id)
	if n == nil {
		return nil, &dems.Error{Code: dems.NotFound, Detail: fmt.Sprintf("There is no node %s; GET /v1/cluster lists the nodes.", id)}
	}
	return n, nil
}

// refusal returns what is known after a node did not do what it was asked, and why it did not.
func refusal(err error) (dems.ReplicaErrorKind, string) {
	refused, ok := errors.AsType[*dems.ReplicaError](err)
	switch {
	case !ok:
		return dems.UnknownOutcome, err.Error()
	case refused.Err == nil:
		return refused.Kind, "it does not say why"
	}
	return refused.Kind, refused.Err.Error()
}
