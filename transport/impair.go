package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"dems"
)

// Impair cuts or slows the network between this server and others, as a partition or latency says, in place of an earlier
// fault of the same kind. The fault begins a moment after Impair has returned, so that who asked for it gets an answer. It
// ends by itself if it says so, and with Heal and Close. The error is for people: it says why that fault cannot be.
func (e *Endpoint) Impair(ctx context.Context, fault dems.Fault) error {
	if e.network == nil {
		return errors.New("the network of this server cannot be impaired: it was not started for drills")
	}
	for _, peer := range fault.Peers {
		switch {
		case peer == e.config.Credentials.name:
			return fmt.Errorf("%s is the node itself: name those that it is to be cut off from", peer)
		case peer != dems.FrontEnds && !slices.Contains(e.config.Nodes, dems.NodeID(peer)):
			return fmt.Errorf("there is no node %s: peers are nodes of the cluster, and %s", peer, dems.FrontEnds)
		}
	}
	return e.network.Inject(ctx, fault)
}

// Heal ends whatever Impair began. What is on its way already still arrives late.
func (e *Endpoint) Heal() {
	if e.network != nil {
		e.network.Heal()
	}
}

// closeNetwork ends the faults of the network, if it can have any, before the socket is closed.
func (e *Endpoint) closeNetwork() {
	if e.network != nil {
		e.network.Close()
	}
}

// locate returns the addresses that a node may send from.
func (e *Endpoint) locate(ctx context.Context, node dems.NodeID) ([]net.Addr, error) {
	address, err := e.resolve(node)
	if err != nil {
		return nil, err
	}
	return resolveAll(ctx, e.config.PacketConn, address)
}
