package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dems"
	"dems/client"
)

const (
	// leastNodes is how many nodes it takes for one to be missing.
	leastNodes = 3
	// removalPeriod is how long removals count towards quarantine.
	removalPeriod = time.Hour
	// probeDelay is the harmless fault by which it is found out whether a node takes faults: one answer comes late by it.
	probeDelay = time.Millisecond
)

// check makes sure, before there is any load, that the cluster is whole, that it is the one whose processes are at hand, and that
// it can be broken as it has to be. What an earlier drill left behind is ended.
func (d *drill) check(ctx context.Context) error {
	d.nodes = d.config.Target.Nodes()
	if len(d.nodes) < leastNodes {
		return fmt.Errorf("a drill needs a cluster of at least %d nodes, and %s has %d", leastNodes, d.config.Target.Description(), len(d.nodes))
	}
	if err := d.config.Target.Serves(d.config.Endpoints); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	if err := d.endOldFaults(limited); err != nil {
		return err
	}
	if slices.ContainsFunc(d.scenarios, func(s scenario) bool { return s.faults }) {
		if err := d.checkFaults(limited); err != nil {
			return err
		}
	}
	return d.countRemovals(limited)
}

// endOldFaults ends what an earlier drill left behind, waits until the cluster is whole, and learns whether front ends take faults.
// Where faults cannot be ended that is mostly because a node does not answer; then that is what has to be said.
func (d *drill) endOldFaults(ctx context.Context) error {
	first, cancel := context.WithTimeout(ctx, d.config.Timeout/2)
	defer cancel()
	_, err := d.api.EndFaults(first)
	if code := dems.CodeOf(err); code != dems.OK && code != dems.NotFound {
		if err := d.checkWhole(ctx); err != nil {
			return err
		}
		_, err = d.api.EndFaults(ctx)
	}
	switch dems.CodeOf(err) {
	case dems.OK:
		d.faults = true
	case dems.NotFound:
	default:
		return err
	}
	return d.checkWhole(ctx)
}

// checkWhole waits for a cluster that has only just started.
func (d *drill) checkWhole(ctx context.Context) error {
	problem := ""
	for {
		err := d.watch.begin(ctx)
		if err == nil {
			d.watch.read(func(s *sight) { problem = s.unwell(d.nodes, 0) })
			if problem == "" {
				return nil
			}
		}
		if wait(ctx, lookInterval) == nil {
			continue
		}
		if problem == "" {
			return err
		}
		return &client.Error{Code: dems.Unavailable, Detail: fmt.Sprintf(
			"The cluster is not whole (%s); a drill begins when every node is a healthy voter: look at demsctl cluster status.", problem)}
	}
}

// checkFaults makes sure that every node takes faults.
func (d *drill) checkFaults(ctx context.Context) error {
	const advice = "demsd dev starts its nodes and front end for drills; others need --enable-faults, containers DEMSD_ENABLE_FAULTS=true make up"
	if !d.faults {
		return fmt.Errorf("%s needs a cluster that was started for drills; %s", d.config.Scenario, advice)
	}
	for _, id := range d.nodes {
		_, err := d.api.InjectFault(ctx, id, dems.Fault{Kind: dems.Slow, Delay: probeDelay, Requests: 1})
		if failed, ok := errors.AsType[*client.Error](err); ok && failed.Code == dems.NotFound {
			return fmt.Errorf("%s needs nodes that were started for drills: %s %s", d.config.Scenario, failed.Detail, advice)
		}
		if err != nil {
			return fmt.Errorf("does %s take faults? %w", id, err)
		}
	}
	return d.endFaults(ctx)
}

// countRemovals counts how often each node was removed within the last hour.
func (d *drill) countRemovals(ctx context.Context) error {
	list, err := d.api.Incidents(ctx, 0)
	if err != nil {
		return err
	}
	for _, incident := range list.Incidents {
		if incident.Kind == dems.RemovalIncident.String() && time.Since(incident.Time) < removalPeriod {
			d.removals[incident.Node]++
		}
	}
	return nil
}
