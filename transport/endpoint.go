package transport

import (
	"errors"
	"net"

	"dems"

	"github.com/hashicorp/raft"
)

var errTodo = errors.New("transport: not written yet")

// Endpoint is a server's socket: it accepts connections of peers and dials them.
type Endpoint struct{}

// Listen opens an endpoint. Front ends use it too, though they only dial.
func Listen(config Config) (*Endpoint, error) { return nil, errTodo }

// Serve starts to answer RPCs with handler; before it they are refused as NotReady.
func (e *Endpoint) Serve(handler Handler) {}

// RaftLayer returns Raft's view of the endpoint. A raft.ServerAddress is a node's ID.
func (e *Endpoint) RaftLayer() raft.StreamLayer { return nil }

// Addr returns the local address.
func (e *Endpoint) Addr() net.Addr { return nil }

// Close ends everything and waits for it.
func (e *Endpoint) Close() error { return nil }

// Replica returns a client of the node at HOST:PORT. It connects when it is first used.
func (e *Endpoint) Replica(address string) *Replica { return &Replica{} }

// Peer returns a client of the node with that ID, found through Config.Resolve.
func (e *Endpoint) Peer(id dems.NodeID) *Replica { return &Replica{} }
