package onenode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"dems"
	"dems/frontend"
)

// What befalls the nodes: incidents, replacements and faults. The state machine's own rules hold.

// down is the node that does not answer. Once it is removed it does not come back.
const down dems.NodeID = "n3"

// startOfCare is the time of the first incident; every later one is a second after the one before.
var startOfCare = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// configure applies a configuration. The caller holds the mutex or is the only one.
func (c *Cluster) configure(members []dems.Member) error {
	_, err := c.machine.ApplyConfiguration(c.machine.Index()+1, members)
	return err
}

// now returns the time of the next incident. The caller holds the mutex.
func (c *Cluster) now() time.Time {
	return startOfCare.Add(time.Duration(len(c.machine.Incidents(0))) * time.Second)
}

// Report has an incident happen, of a kind that front ends and nodes report; its time is set.
func (c *Cluster) Report(incident dems.Incident) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	incident.Time = c.now()
	_, err := c.apply(dems.Entry{Kind: dems.IncidentEntry, Incident: incident})
	return err
}

// Incidents implements frontend.Cluster.
func (c *Cluster) Incidents(_ context.Context, from uint64) ([]dems.Incident, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failure(); err != nil {
		return nil, err
	}
	return c.machine.Incidents(from), nil
}

// Replace implements frontend.Cluster. Every Status afterwards finds the replacement a step further.
func (c *Cluster) Replace(_ context.Context, id dems.NodeID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failure(); err != nil {
		return err
	}
	err := c.replace(id, "fe1", "An operator asked for it.", false)
	if refused, ok := errors.AsType[*refusedError](err); ok {
		return &dems.Error{Code: dems.Unavailable, Detail: fmt.Sprintf("Node %s cannot be replaced now: %s.", id, refused.reason)}
	}
	return err
}

// Quarantine has a node convicted by the others until it is in quarantine.
func (c *Cluster) Quarantine(id dems.NodeID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		standing, err := c.standing(id)
		switch {
		case err != nil:
			return err
		case standing.Condition == dems.Quarantined:
			return nil
		case standing.Condition == dems.Correct:
			err = c.replace(id, "n1", "Its state differs.", true)
		default:
			err = c.advance()
		}
		if err != nil {
			return err
		}
	}
}

// replace proposes a replacement. The caller holds the mutex.
func (c *Cluster) replace(id dems.NodeID, by, cause string, automatic bool) error {
	standing, err := c.standing(id)
	if err != nil {
		return err
	}
	_, err = c.apply(dems.Entry{Kind: dems.ReplacementEntry, Replacement: dems.Replacement{
		Node: id, Incarnation: standing.Incarnation, By: by, Cause: cause, Automatic: automatic, Time: c.now(),
	}})
	return err
}

// standing returns where a node stands. The caller holds the mutex.
func (c *Cluster) standing(id dems.NodeID) (dems.Standing, error) {
	for _, standing := range c.machine.Standings() {
		if standing.Node == id {
			return standing, nil
		}
	}
	return dems.Standing{}, &dems.Error{Code: dems.NotFound, Detail: fmt.Sprintf("There is no node %s.", id)}
}

// Status implements frontend.Cluster. Whatever is being replaced is a step further afterwards.
func (c *Cluster) Status(context.Context) frontend.ClusterStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := c.machine.Members()
	status := frontend.ClusterStatus{Leader: c.leader, Term: 7}
	for _, standing := range c.machine.Standings() {
		view := frontend.NodeView{ID: standing.Node, Incarnation: standing.Incarnation, Suffrage: dems.None}
		if at := slices.IndexFunc(members, func(m dems.Member) bool { return m.ID == standing.Node }); at >= 0 {
			view.Suffrage = members[at].Suffrage
		}
		if standing.Node == down {
			view.State, view.Strikes = "down", 1
		} else {
			view.State, view.Applied, view.Digest = stateOf(standing.Condition), c.machine.Index(), c.machine.Digest()
		}
		status.Nodes = append(status.Nodes, view)
	}
	if err := c.advance(); err != nil {
		panic(err) // the state machine refuses no step of a replacement
	}
	return status
}

// advance brings what is being replaced a step further. The caller holds the mutex.
func (c *Cluster) advance() error {
	for _, standing := range c.machine.Standings() {
		if next, moves := c.step(standing, c.machine.Members()); moves {
			return c.configure(next)
		}
	}
	return nil
}

func stateOf(condition dems.Condition) string {
	switch condition {
	case dems.Convicted, dems.Quarantined:
		return "incorrect"
	case dems.Expelled, dems.Rejoining:
		return "replacing"
	}
	return "healthy"
}

// step returns the configuration that brings a node that is being replaced further. The caller holds the mutex.
func (c *Cluster) step(s dems.Standing, members []dems.Member) ([]dems.Member, bool) {
	others := slices.DeleteFunc(slices.Clone(members), func(m dems.Member) bool { return m.ID == s.Node })
	switch {
	case s.Condition == dems.Convicted:
		if c.leader == s.Node {
			c.leader = others[0].ID
		}
		delete(c.faults, s.Node)
		return others, true
	case s.Condition == dems.Expelled && s.Node != down:
		return append(others, dems.Member{ID: s.Node, Incarnation: s.Incarnation, Suffrage: dems.Nonvoter}), true
	case s.Condition == dems.Rejoining:
		return append(others, dems.Member{ID: s.Node, Incarnation: s.Incarnation, Suffrage: dems.Voter}), true
	}
	return nil, false
}

// Inject implements frontend.Cluster.
func (c *Cluster) Inject(_ context.Context, id dems.NodeID, fault dems.Fault) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failure(); err != nil {
		return err
	}
	if _, err := c.standing(id); err != nil {
		return err
	}
	if id == down {
		return &dems.Error{Code: dems.Unavailable, Detail: fmt.Sprintf("Node %s does not answer.", id)}
	}
	c.faults[id] = fault
	return nil
}

// EndFaults implements frontend.Cluster.
func (c *Cluster) EndFaults(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failure(); err != nil {
		return err
	}
	clear(c.faults)
	return nil
}

// Faults returns the faults that nodes have now.
func (c *Cluster) Faults() map[dems.NodeID]dems.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.faults)
}
