package node

import (
	"context"
	"errors"

	"dems"
)

// Report implements transport.Handler.
func (n *Node) Report(context.Context, dems.Report) error { return nil }

// Replace implements transport.Handler.
func (n *Node) Replace(context.Context, dems.NodeID) error {
	return replicaError(dems.BadRequest, errors.New("not yet"))
}
