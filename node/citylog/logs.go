package citylog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"dems"
	"dems/fsm"
	"dems/node/storage"
)

const (
	// queueLimit is how many messages wait for the writing goroutine, each with the records of at most a few entries.
	// At the limit Append waits, and with it the state machine.
	queueLimit = 256
	// pendingBytes is how many bytes of records are held back for one city while its log has a gap.
	pendingBytes = 16 << 20
	// copyBytes is how much fetched history is written before live records are looked at again.
	copyBytes = 1 << 20
)

var (
	// ErrGap means that records are still being fetched from peers.
	ErrGap = errors.New("city log history is still being fetched from peers")
	// ErrStopped means that Run has ended.
	ErrStopped = errors.New("city logs are closed")
	// ErrAbandoned as the cause of Run's context makes Run end as a crash would: nothing is written any more.
	ErrAbandoned = errors.New("city logs are abandoned")
)

// Config says where the logs are and what they have to agree with.
type Config struct {
	Dir    string // made if it is not there
	Cities dems.Cities
	// State is the replicated state. Its method is called concurrently with everything.
	State   State
	Sources []Source // the peers
	Logger  *slog.Logger
}

// State knows what the city logs have to hold.
type State interface {
	// CityLog returns how many ordered records a city's log has, and the chain digest over them.
	CityLog(dems.City) (records uint64, chain dems.Digest)
}

// Logs are the city logs of one node.
type Logs struct {
	config Config
	logs   []*log     // in the order of the cities
	start  []position // of the state when the logs were opened
	queue  chan message
	done   chan struct{} // closed when Run has ended
	turns  atomic.Uint32
	held   int            // limit on records held back for one city, in bytes
	group  sync.WaitGroup // goroutines that fetch
}

// Read is the record of a read.
type Read struct {
	City dems.City
	Line []byte // a JSON object and a line feed
}

// message is one of the things that the writing goroutine is asked for.
type message struct {
	records  []fsm.Record
	reads    []Read
	restored []position // by city; nil: no restore
	sync     *syncRequest
	history  *history
	damaged  *log // with history, which takes its place
}

type syncRequest struct {
	state State
	reply chan error // holds one
}

// Open opens the logs and cuts off what a crash left torn. Run will compare them with the state as it is now, and expects
// what is applied after that from Append. Close or Run lets go of the files.
func Open(config Config) (*Logs, error) {
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("city logs: %w", err)
	}
	if err := storage.SyncFolder(filepath.Dir(config.Dir)); err != nil {
		return nil, fmt.Errorf("city logs: %w", err)
	}
	l := &Logs{config: config, queue: make(chan message, queueLimit), done: make(chan struct{}), held: pendingBytes}
	for _, named := range config.Cities {
		log, err := openLog(config.Dir, named.City)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("city log: %w", err), l.Close())
		}
		l.logs = append(l.logs, log)
	}
	l.start = l.positions(config.State)
	if err := errors.Join(removeFetched(config.Dir), storage.SyncFolder(config.Dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("city logs: %w", err), l.Close())
	}
	return l, nil
}

// removeFetched removes what a crash left of unfinished fetching.
func removeFetched(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*.fetch-*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// Close closes logs that never ran.
func (l *Logs) Close() error {
	var err error
	for _, log := range l.logs {
		err = errors.Join(err, log.close())
	}
	return err
}

func (l *Logs) find(city dems.City) *log {
	if i := l.config.Cities.Index(city); i >= 0 {
		return l.logs[i]
	}
	return nil
}

// Size returns how many bytes of a city's log have been written.
func (l *Logs) Size(city dems.City) int64 {
	log := l.find(city)
	log.mu.Lock()
	defer log.mu.Unlock()
	return log.shownEnd.offset
}

// Append adds ordered records, in the order in which they were applied. Those that a log has already are skipped. It
// waits while the queue is full. One goroutine calls it. The records must not be changed afterwards.
func (l *Logs) Append(records []fsm.Record) {
	if len(records) > 0 {
		l.send(context.Background(), message{records: records})
	}
}

// Restored tells that the state was replaced by a snapshot's, which may be far ahead. The goroutine that appends calls it.
func (l *Logs) Restored(state State) {
	l.send(context.Background(), message{restored: l.positions(state)})
}

func (l *Logs) positions(state State) []position {
	all := make([]position, len(l.logs))
	for i, log := range l.logs {
		all[i].records, all[i].chain = state.CityLog(log.city)
	}
	return all
}

// AppendReads adds records of reads. It waits while the queue is full, at most until ctx ends.
func (l *Logs) AppendReads(ctx context.Context, reads []Read) error {
	return l.send(ctx, message{reads: reads})
}

// Sync makes every record durable that the state counts. It fails with ErrGap while some are missing.
func (l *Logs) Sync(ctx context.Context, state State) error {
	request := &syncRequest{state: state, reply: make(chan error, 1)}
	if err := l.send(ctx, message{sync: request}); err != nil {
		return err
	}
	select {
	case err := <-request.reply:
		return err
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send hands a message to the writing goroutine.
func (l *Logs) send(ctx context.Context, m message) error {
	select {
	case <-l.done:
		return ErrStopped
	default:
	}
	select {
	case l.queue <- m:
		return nil
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}
