package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"dems"

	"github.com/hashicorp/raft"
	"github.com/quic-go/quic-go"
)

// Codes of reset Raft streams.
const (
	streamClosed  quic.StreamErrorCode = 0
	streamRefused quic.StreamErrorCode = 1 // no Raft runs here
)

// raftLayer implements raft.StreamLayer. It holds one connection for each node dialled; every net.Conn is a stream on it.
//
// A stream begins with the incarnation that it is meant for, and another one refuses it. Without that a leader that has
// been replaced and does not know it yet would take what a node's new, empty life stores for the promise of the old one. What
// makes clusters that were restored from different backups, or from none, different is mixed into it: their logs have entries
// with the same index and term that are not the same.
type raftLayer struct {
	endpoint    *Endpoint
	incarnation uint64
	mark        uint64        // of the backup
	incoming    chan net.Conn // unbuffered: who does not accept holds the peer back
	ctx         context.Context
	cancel      context.CancelFunc

	mutex      sync.Mutex
	connectors map[dems.NodeID]*connector
	streams    map[*raftStream]struct{}
}

var _ raft.StreamLayer = (*raftLayer)(nil)

func newRaftLayer(endpoint *Endpoint, incarnation uint64, origin dems.Origin) *raftLayer {
	layer := &raftLayer{
		endpoint:    endpoint,
		incarnation: incarnation,
		mark:        origin.Mark(),
		incoming:    make(chan net.Conn),
		connectors:  make(map[dems.NodeID]*connector),
		streams:     make(map[*raftStream]struct{}),
	}
	layer.ctx, layer.cancel = context.WithCancel(endpoint.ctx)
	return layer
}

// Accept implements net.Listener.
func (l *raftLayer) Accept() (net.Conn, error) {
	select {
	case stream := <-l.incoming:
		return stream, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener: the node's ID is its address.
func (l *raftLayer) Addr() net.Addr { return nodeAddr(l.endpoint.config.Credentials.name) }

// Close implements net.Listener. It also ends every stream and every connection dialled.
func (l *raftLayer) Close() error {
	l.cancel()
	l.mutex.Lock()
	connectors, streams := l.connectors, l.streams
	l.connectors, l.streams = nil, nil
	l.mutex.Unlock()
	for stream := range streams {
		stream.Close()
	}
	for _, connector := range connectors {
		connector.close()
	}
	return nil
}

// Dial implements raft.StreamLayer. The address is a node's ID and, after a point, the incarnation that is meant: n2.1. The
// peer sees the stream when the first byte is written.
func (l *raftLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := l.ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(l.ctx, timeout)
	}
	defer cancel()
	id, number, _ := strings.Cut(string(address), ".")
	incarnation, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("raft address %q is not a node's ID and an incarnation", address)
	}
	connector, err := l.connector(dems.NodeID(id))
	if err != nil {
		return nil, err
	}
	stream, err := connector.openStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("raft stream to %s: %w", address, err)
	}
	stream.unsent = binary.LittleEndian.AppendUint64(nil, incarnation^l.mark)
	if !l.track(stream) {
		stream.Close()
		return nil, net.ErrClosed
	}
	return stream, nil
}

func (l *raftLayer) connector(id dems.NodeID) (*connector, error) {
	if !dems.ValidName(string(id)) {
		return nil, fmt.Errorf("raft address %q is not a node's ID", id)
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.connectors == nil {
		return nil, net.ErrClosed
	}
	found := l.connectors[id]
	if found == nil {
		found = newConnector(l.endpoint, protocolRaft, id, func() (string, error) { return l.endpoint.resolve(id) })
		l.connectors[id] = found
	}
	return found, nil
}

// openStream opens a stream, on a new connection if the one at hand turns out to be dead.
func (c *connector) openStream(ctx context.Context) (*raftStream, error) {
	for attempt := 0; ; attempt++ {
		connection, err := c.get(ctx)
		if err != nil {
			return nil, err
		}
		stream, err := connection.quic.OpenStreamSync(ctx)
		if err == nil {
			return &raftStream{Stream: stream, connection: connection.quic}, nil
		}
		if ctx.Err() != nil || attempt > 0 {
			return nil, err
		}
		c.discard(connection)
	}
}

// deliver hands a peer's stream to Accept; false: the layer is closed.
func (l *raftLayer) deliver(connection *quic.Conn, opened *quic.Stream) bool {
	stream := &raftStream{Stream: opened, connection: connection, accepted: true}
	if !l.track(stream) {
		return false
	}
	select {
	case l.incoming <- stream:
		return true
	case <-l.ctx.Done():
	case <-connection.Context().Done():
	}
	stream.Close()
	return false
}

func (l *raftLayer) track(stream *raftStream) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.streams == nil {
		return false
	}
	stream.layer = l
	l.streams[stream] = struct{}{}
	return true
}

func (l *raftLayer) forget(stream *raftStream) {
	l.mutex.Lock()
	delete(l.streams, stream)
	l.mutex.Unlock()
}

// nodeAddr is a node's ID as a net.Addr.
type nodeAddr string

func (nodeAddr) Network() string  { return "dems" }
func (a nodeAddr) String() string { return string(a) }

// raftStream is a stream as a net.Conn. Deadlines are the stream's own.
type raftStream struct {
	*quic.Stream
	connection *quic.Conn
	layer      *raftLayer
	closing    sync.Once
	accepted   bool       // and the incarnation that it is meant for has not been read yet; for the reader only
	writing    sync.Mutex // held while a Write is under way: a stream must not be finished meanwhile
	unsent     []byte     // goes before the first bytes written
}

// Read implements net.Conn. A peer that closed the stream or its endpoint is the end of the stream.
func (s *raftStream) Read(data []byte) (int, error) {
	if s.accepted {
		if err := s.readIncarnation(); err != nil {
			return 0, err
		}
		s.accepted = false
	}
	n, err := s.Stream.Read(data)
	if err != nil && err != io.EOF {
		err = streamError(err)
	}
	return n, err
}

// readIncarnation makes sure that the stream is meant for this life of the node.
func (s *raftStream) readIncarnation() error {
	var wanted [8]byte
	if _, err := io.ReadFull(s.Stream, wanted[:]); err != nil {
		return streamError(err)
	}
	if got := binary.LittleEndian.Uint64(wanted[:]) ^ s.layer.mark; got != s.layer.incarnation {
		s.CancelRead(streamRefused)
		s.CancelWrite(streamRefused)
		return fmt.Errorf("a raft stream for incarnation %d of this cluster, or from another cluster: this is incarnation %d",
			got, s.layer.incarnation)
	}
	return nil
}

// Write implements net.Conn.
func (s *raftStream) Write(data []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if len(s.unsent) == 0 {
		return s.Stream.Write(data)
	}
	before := len(s.unsent)
	n, err := s.Stream.Write(append(s.unsent, data...))
	s.unsent = nil
	return max(0, n-before), err
}

// Close implements net.Conn: what was written still arrives, and nothing more is read. A Write under way is aborted.
func (s *raftStream) Close() error {
	s.closing.Do(func() {
		s.CancelRead(streamClosed)
		if s.writing.TryLock() {
			s.Stream.Close()
			s.writing.Unlock()
		} else {
			s.CancelWrite(streamClosed)
		}
		if s.layer != nil {
			s.layer.forget(s)
		}
	})
	return nil
}

// LocalAddr implements net.Conn.
func (s *raftStream) LocalAddr() net.Addr { return s.connection.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *raftStream) RemoteAddr() net.Addr { return s.connection.RemoteAddr() }

// streamError turns orderly ends into the errors that users of a net.Conn look for.
func streamError(err error) error {
	if ended, ok := errors.AsType[*quic.ApplicationError](err); ok && ended.ErrorCode == 0 {
		if ended.Remote {
			return io.EOF
		}
		return net.ErrClosed
	}
	if reset, ok := errors.AsType[*quic.StreamError](err); ok && reset.ErrorCode == streamClosed {
		if reset.Remote {
			return io.EOF
		}
		return net.ErrClosed
	}
	return err
}
