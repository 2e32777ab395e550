package frontend

import (
	"context"

	"dems"
)

// Incidents implements Cluster.
func (c *Core) Incidents(ctx context.Context, from uint64) ([]dems.Incident, error) { return nil, nil }

// Replace implements Cluster.
func (c *Core) Replace(ctx context.Context, id dems.NodeID) error { return nil }

// Inject implements Cluster.
func (c *Core) Inject(ctx context.Context, id dems.NodeID, fault dems.Fault) error { return nil }

// EndFaults implements Cluster.
func (c *Core) EndFaults(ctx context.Context) error { return nil }
