package frontend

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"dems"
)

// What operators ask: who is there, who leads, whether all is well.

// Status implements Cluster.
func (c *Core) Status(ctx context.Context) ClusterStatus {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	view := c.members.view()
	nodes := view.distinct()
	status := ClusterStatus{Nodes: make([]NodeView, len(nodes))}
	var group sync.WaitGroup
	for i, n := range nodes {
		group.Go(func() {
			said, err := n.replica.Status(ctx)
			if ctx.Err() == nil || err == nil {
				c.members.update(n, said, err)
			}
			answers := err == nil && n.speaks(said.ID)
			if !answers {
				said, _ = c.members.statusOf(n) // what it said last
			}
			strikes := c.judge.strikesOf(n.name(), said.Incarnation)
			status.Nodes[i] = NodeView{
				ID: n.name(), Incarnation: said.Incarnation, Suffrage: view.suffrage(n), Applied: said.Applied, Digest: said.Digest,
				Strikes: strikes, State: state(answers, said.Ready, c.members.standing(n.name()), strikes),
			}
		})
	}
	group.Wait()
	view = c.members.view()
	status.Term = view.term
	if view.leader != nil {
		status.Leader = view.leader.name()
	}
	return status
}

// suffrage returns what a majority says of a node: whether it votes.
func (v *view) suffrage(n *node) dems.Suffrage {
	for _, member := range v.members {
		if member.ID == n.name() {
			return member.Suffrage
		}
	}
	return dems.None
}

// state returns what clients are told of a node, by whether it answers, whether it says that it has caught up, where a
// majority says that it stands, and what it has got wrong here.
func state(answers, ready bool, standing dems.Condition, strikes int) string {
	switch {
	case standing == dems.Expelled || standing == dems.Rejoining: // it is emptied and started again meanwhile
		return "replacing"
	case standing == dems.Convicted || standing == dems.Quarantined:
		return "incorrect"
	case !answers || !ready:
		return "down"
	case strikes > 0:
		return "suspected"
	}
	return "healthy"
}

// Transfer implements Cluster.
func (c *Core) Transfer(ctx context.Context, to dems.NodeID) error {
	if to != "" && c.members.view().find(to) == nil {
		return &dems.Error{Code: dems.NotFound, Detail: fmt.Sprintf("There is no node %s; GET /v1/cluster lists the nodes.", to)}
	}
	for {
		view, changed := c.members.watch()
		if view.leader != nil {
			if to != "" && view.leader.speaks(to) {
				return nil
			}
			err := view.leader.replica.Transfer(ctx, to)
			if err == nil {
				return c.awaitLeader(ctx, view.leader, to)
			}
			c.proposer.learn(view.leader, way{}, err)
			if refused, ok := errors.AsType[*dems.ReplicaError](err); ok && refused.Kind == dems.BadRequest {
				return &dems.Error{Code: dems.NotFound, Detail: fmt.Sprintf("Node %s cannot lead: %v.", to, err)}
			}
			c.config.Logger.Warn("transfer leadership", "to", to, "error", err)
		}
		if !pause(ctx, changed, 10*retryPause) || c.reader.isEnded() {
			return &dems.Error{Code: dems.Unavailable, Detail: "No leader could hand over; look at GET /v1/cluster and try again."}
		}
	}
}

// awaitLeader waits until the leader is no longer the old one and, where a node is wanted, is that one.
func (c *Core) awaitLeader(ctx context.Context, old *node, wanted dems.NodeID) error {
	for {
		view, changed := c.members.watch()
		if view.leader != nil && view.leader != old && (wanted == "" || view.leader.speaks(wanted)) {
			return nil
		}
		c.members.refresh()
		if !pause(ctx, changed, retryPause) || c.reader.isEnded() {
			return &dems.Error{Code: dems.Unavailable, Detail: "Leadership was handed over, but no new leader is known yet."}
		}
	}
}

// Checks implements Cluster.
func (c *Core) Checks(ctx context.Context) []Check {
	status := c.Status(ctx)
	view := c.members.view()
	checks := make([]Check, 0, len(status.Nodes)+4)
	healthy := 0
	for _, n := range status.Nodes {
		if (n.State == "healthy" || n.State == "suspected") && n.Suffrage == dems.Voter {
			healthy++
		}
	}
	check := func(name string, passed bool, problem string) {
		var err error
		if !passed {
			err = errors.New(problem)
		}
		checks = append(checks, Check{Name: name, Err: err})
	}
	check("majority", len(view.voters) > 0 && healthy >= view.majority(),
		fmt.Sprintf("%d of %d voters answer", healthy, len(view.voters)))
	check("leader", view.leader != nil, "no leader is known")
	check("session", c.proposer.open.Load(), "the nodes have not opened a session for this front end yet")
	known := c.knowsCities()
	check("cities", known, "the registry has not been read yet")
	return checks
}
