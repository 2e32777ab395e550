package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"dems"

	"github.com/quic-go/quic-go"
)

// Config says how an Endpoint behaves. Zero durations take the defaults given here.
type Config struct {
	Credentials *Credentials
	// PacketConn is the server's one UDP socket. The Endpoint owns it: Close closes it, and so does a failing Listen.
	// One that is no UDP socket may have a method ResolveAddr(address string) (net.Addr, error); without it addresses
	// are resolved as UDP addresses.
	PacketConn net.PacketConn
	// Resolve returns the address, HOST:PORT, of a node. Peer and RaftLayer need it.
	Resolve func(dems.NodeID) (address string, ok bool)
	// Logger gets rare events: refused peers, a broken socket, panics. Nil discards them.
	Logger *slog.Logger
	// StatelessResetKeyFile holds the secret that lets this server, after a restart, tell its peers at once that their
	// old connections are dead. It is created if absent. "" is a random key: peers then find out by idle timeout.
	StatelessResetKeyFile string
	// DialTimeout bounds connecting, handshake included; default 2 s.
	DialTimeout time.Duration
	// CallTimeout bounds calls whose context has no deadline, except Votes and Backup; default 10 s.
	CallTimeout time.Duration
	// PartTimeout bounds how long whoever reads a backup may take to take one piece of it; default 30 s. The node keeps a
	// copy of what changes meanwhile.
	PartTimeout time.Duration
	// IdleTimeout is after how long without a packet a connection counts as dead; default 2 s. The shorter of both ends'
	// counts. Danger: much shorter, and a busy machine loses healthy connections.
	IdleTimeout time.Duration
	// KeepAlivePeriod is how often the end that dialled makes the other end send something; default a third of
	// IdleTimeout. It must be at most half of it.
	KeepAlivePeriod time.Duration
	// Faulty lets Impair cut and slow the network, for drills.
	Faulty bool
	// Nodes are all nodes of the cluster, which Resolve knows. Impair needs them.
	Nodes []dems.NodeID
}

// Limits on what comes in. Each is far above what a healthy cluster uses.
const (
	// maxConnections is how many connections are accepted at once; the next one is closed.
	maxConnections = 1024
	// maxStreams is how many requests, or Raft streams, one connection carries at once; more wait at the sender.
	maxStreams = 256
	// maxReplyBytes is the largest reply, in bytes.
	maxReplyBytes = 64 << 20
	// maxRequestBytes is the largest request, in bytes: an entry or MaxQueries queries, and the protobuf around them.
	maxRequestBytes = dems.MaxEntryBytes + 1024
	// maxPageBytes is the largest run of city log records that a client may ask for, in bytes.
	maxPageBytes = 16 << 20
	// maxPartBytes is the largest piece of a backup, in bytes.
	maxPartBytes = 4 << 20
	// maxHeaderBytes is the largest HTTP header, in bytes.
	maxHeaderBytes = 16 << 10
	// maxPendingVotes is how many votes wait for one slow reader; at the limit its stream is ended.
	maxPendingVotes = 1 << 16
	// maxVotesPerMessage splits what is sent at once, so that a replay is read while it is sent.
	maxVotesPerMessage = 1024
	// receive windows, in bytes: an entry of the largest size never waits for the receiver.
	streamWindow, maxStreamWindow         = 1 << 20, 8 << 20
	connectionWindow, maxConnectionWindow = 4 << 20, 32 << 20
)

// withDefaults returns the config with its zero values replaced, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.Credentials == nil || c.PacketConn == nil {
		return c, errors.New("transport: credentials and a socket are needed")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Resolve == nil {
		c.Resolve = func(dems.NodeID) (string, bool) { return "", false }
	}
	for _, duration := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&c.DialTimeout, 2 * time.Second}, {&c.CallTimeout, 10 * time.Second}, {&c.IdleTimeout, 2 * time.Second},
		{&c.PartTimeout, 30 * time.Second}} {
		if *duration.value == 0 {
			*duration.value = duration.standard
		}
	}
	if c.KeepAlivePeriod == 0 {
		c.KeepAlivePeriod = c.IdleTimeout / 3
	}
	if c.DialTimeout < 0 || c.CallTimeout < 0 || c.PartTimeout < 0 || c.KeepAlivePeriod <= 0 || c.KeepAlivePeriod > c.IdleTimeout/2 {
		return c, fmt.Errorf("transport: timeouts must be positive, and the keep-alive period (%v) at most half of the idle timeout (%v)",
			c.KeepAlivePeriod, c.IdleTimeout)
	}
	return c, nil
}

// quicConfig is for connections accepted or, dialling, for connections dialled: only that end sends keep-alives, and only
// the other end accepts streams for requests.
func (c *Config) quicConfig(dialling bool) *quic.Config {
	config := &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           c.DialTimeout,
		MaxIdleTimeout:                 c.IdleTimeout,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: connectionWindow,
		MaxConnectionReceiveWindow:     maxConnectionWindow,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          8,    // HTTP/3 uses three
		EnableDatagrams:                true, // for keep-alives
	}
	if dialling {
		config.MaxIncomingStreams = -1
	}
	return config
}

// Handler is what a node implements; *Replica has the same methods on the client side. Methods are called concurrently and
// must return soon after their context ends; Caller tells by it who calls. Errors other than *dems.ReplicaError reach the
// client as UnknownOutcome.
type Handler interface {
	// Propose orders an encoded entry, which the handler may keep, and returns the results once it is applied here.
	// Leader only.
	Propose(ctx context.Context, entry []byte) (dems.BatchReply, error)
	// Forward has the leader order an encoded entry, and returns what this node got for it: for front ends that do not reach
	// the leader themselves. A node's question is not forwarded again.
	Forward(ctx context.Context, entry []byte) (dems.BatchReply, error)
	// Query answers reads once the node has applied batch.MinIndex.
	Query(ctx context.Context, batch dems.QueryBatch) (dems.QueryReply, error)
	// Votes calls send first with the recent votes on this session's batches and then with every vote, until ctx ends.
	// On the server side send never blocks and copies the votes; it fails when the reader is too slow. On the client side
	// it belongs to the caller, who may keep the slice.
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
	// Report takes in what a front end has seen. The replica manager believes its own records only.
	Report(ctx context.Context, report dems.Report) error
	// Suspect has the node look whether a leader answers. A front end's question makes it ask its peers, too, and have the
	// leader replaced if a majority agrees; a node's question is only answered.
	Suspect(ctx context.Context, suspicion dems.Suspicion) (dems.Opinion, error)
	// StateAt returns the digest of the state after the entry with an index; NotReady where it is not known (any more).
	StateAt(ctx context.Context, index uint64) (dems.Digest, error)
	// Replace has a node removed, emptied and added again. Leader only; BadRequest says why it cannot be now.
	Replace(ctx context.Context, id dems.NodeID) error
	// Inject makes the node misbehave, or with dems.NoFault ends that; BadRequest unless the node was started for drills.
	Inject(ctx context.Context, fault dems.Fault) error
	// Backup hands over a backup of the state at an index that is at least minIndex: first what it is of, then its bytes. The
	// data of a part belongs to whoever calls send again when send returns. Send may block.
	Backup(ctx context.Context, minIndex uint64, send func(dems.BackupPart) error) error
}
