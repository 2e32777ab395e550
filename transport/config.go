package transport

import (
	"context"
	"log/slog"
	"net"
	"time"

	"dems"
)

// Config says how an Endpoint behaves. Zero durations and limits take the defaults given here.
type Config struct {
	Credentials *Credentials
	// PacketConn is the server's one UDP socket. The Endpoint owns it: Close closes it, and so does a failing Listen.
	PacketConn net.PacketConn
	// Resolve returns the address, HOST:PORT, of a node. Peer and RaftLayer need it.
	Resolve func(dems.NodeID) (address string, ok bool)
	// Logger gets rare events: refused peers, broken sockets, panics. Nil discards them.
	Logger *slog.Logger
	// StatelessResetKeyFile holds the secret that lets this server, after a restart, tell its peers at once that their
	// old connections are dead. It is created if absent. "" is a random key: peers then find out by idle timeout.
	StatelessResetKeyFile string
	// DialTimeout bounds connecting and the TLS handshake; default 1 s.
	DialTimeout time.Duration
	// CallTimeout bounds calls whose context has no deadline, except Votes; default 10 s.
	CallTimeout time.Duration
	// IdleTimeout is after how long without a packet a connection counts as dead; default 2 s. Danger: shorter than
	// a few KeepAlivePeriods, a busy machine loses healthy connections.
	IdleTimeout time.Duration
	// KeepAlivePeriod is how often an idle connection proves that it lives; default IdleTimeout / 3.
	KeepAlivePeriod time.Duration
}

// Handler is what a node implements; *Replica has the same methods on the client side. Methods are called concurrently.
// Errors other than *dems.ReplicaError reach the client as UnknownOutcome.
type Handler interface {
	// Propose orders an encoded entry and returns the results once it is applied here. Leader only.
	Propose(ctx context.Context, entry []byte) (dems.BatchReply, error)
	// Query answers reads once the node has applied batch.MinIndex.
	Query(ctx context.Context, batch dems.QueryBatch) (dems.QueryReply, error)
	// Votes calls send first with the recent votes on this session's batches and then with every vote, until ctx ends.
	// It does not keep the slice that it is given and must not be handed one that changes while send runs.
	Votes(ctx context.Context, session uint64, send func([]dems.Vote) error) error
	// Results returns what this node got for a batch; NotReady while it has not applied it.
	Results(ctx context.Context, session, batch uint64) (dems.BatchReply, error)
	// Status tells what the node says of itself.
	Status(ctx context.Context) (dems.NodeStatus, error)
	// ReadIndex returns a commit index that covers everything acknowledged before the call. Leader only.
	ReadIndex(ctx context.Context) (uint64, error)
	// CityLog returns ordered records of a city's log, whole lines, from number first on, about maxBytes of them.
	CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error)
	// Transfer hands leadership to a node, "" = any. Leader only.
	Transfer(ctx context.Context, to dems.NodeID) error
}
