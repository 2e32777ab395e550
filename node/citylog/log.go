package citylog

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"dems"
	"dems/fsm"
	"dems/node/storage"
)

const (
	bufferBytes       = 256 << 10 // collected before a write, unless nothing else is waiting
	checkpointRecords = 8192      // ordered records between checkpoints
	checkpointBytes   = 4 << 20   // bytes between checkpoints: bounds what is read to find a record, and after a crash
)

// log is one city's log. Only the goroutine of Run touches it, except what mu guards.
type log struct {
	city        dems.City
	path        string
	file, index *os.File
	buffer      []byte     // lines that are not yet written
	end         checkpoint // of all lines, buffer included
	saved       checkpoint // the last one in the index
	replayed    *position  // how far Raft has replayed what the log has already; nil: nothing to compare
	gap         bool       // records are missing after end; a goroutine fetches them
	required    uint64     // while there is a gap: how many records a snapshot since installed counts
	copying     *history   // fetched records on their way into the file
	pending     []fsm.Record
	pendingSize int

	mu          sync.Mutex
	shownEnd    checkpoint   // of all written lines
	checkpoints []checkpoint // all in the index
}

// position is a number of ordered records with the chain digest over them.
type position struct {
	records uint64
	chain   dems.Digest
}

// openLog opens a city's log and cuts off what a crash left torn.
func openLog(dir string, city dems.City) (l *log, err error) {
	l = &log{city: city, path: filepath.Join(dir, city.String()+".log")}
	if l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	if l.index, err = os.OpenFile(l.indexPath(), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *log) indexPath() string { return l.path[:len(l.path)-len("log")] + "index" }

func (l *log) close() error { return errors.Join(l.file.Close(), l.index.Close()) }

// recover finds the end of the log from its last checkpoint on.
func (l *log) recover() error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if err := l.recoverIndex(info.Size()); err != nil {
		return err
	}
	if l.end, err = scan(l.file, l.saved, info.Size()); err != nil {
		return err
	}
	if l.end.offset < info.Size() {
		if err := l.file.Truncate(l.end.offset); err != nil {
			return err
		}
	}
	l.show(nil)
	return nil
}

// recoverIndex reads the checkpoints that a log of that size can have, and cuts the others off.
func (l *log) recoverIndex(logSize int64) error {
	data, err := io.ReadAll(l.index)
	if err != nil {
		return err
	}
	checkpoints, _ := parseIndex(data, l.city)
	for len(checkpoints) > 0 && checkpoints[len(checkpoints)-1].offset > logSize {
		checkpoints = checkpoints[:len(checkpoints)-1]
	}
	whole := []byte(indexHeader + l.city.String() + "\n")
	for _, c := range checkpoints {
		whole = c.appendLine(whole)
	}
	if string(whole) != string(data) {
		if err := l.index.Truncate(0); err != nil {
			return err
		}
		if _, err := l.index.Write(whole); err != nil {
			return err
		}
	}
	if len(checkpoints) > 0 {
		l.saved = checkpoints[len(checkpoints)-1]
	}
	l.checkpoints = checkpoints
	return nil
}

// scan reads whole lines from a checkpoint on and returns where they end.
func scan(file io.ReaderAt, from checkpoint, size int64) (checkpoint, error) {
	reader := bufio.NewReaderSize(io.NewSectionReader(file, from.offset, size-from.offset), maxLineBytes)
	for {
		line, err := reader.ReadSlice('\n')
		if err == io.EOF || err == bufio.ErrBufferFull || err == nil && !valid(line) {
			return from, nil
		}
		if err != nil {
			return checkpoint{}, err
		}
		from = from.after(line)
	}
}

// after returns the checkpoint behind one more line.
func (c checkpoint) after(line []byte) checkpoint {
	c.offset += int64(len(line))
	if Ordered(line) {
		c.records++
		c.chain = fsm.ChainRecord(c.chain, line)
		c.sequence = sequence(line)
	}
	return c
}

// append adds a line to the end of the log.
func (l *log) append(line []byte) error {
	l.buffer = append(l.buffer, line...)
	l.end = l.end.after(line)
	if l.end.records-l.saved.records >= checkpointRecords || l.end.offset-l.saved.offset >= checkpointBytes {
		return l.save()
	}
	if len(l.buffer) >= bufferBytes {
		return l.flush()
	}
	return nil
}

// flush writes what append has collected.
func (l *log) flush() error {
	if len(l.buffer) == 0 {
		return nil
	}
	if _, err := l.file.Write(l.buffer); err != nil {
		return err
	}
	l.buffer = l.buffer[:0]
	l.show(nil)
	return nil
}

// save makes the log durable and notes its end in the index.
func (l *log) save() error {
	if err := l.flush(); err != nil {
		return err
	}
	if l.end.offset == l.saved.offset {
		return nil
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	if _, err := l.index.Write(l.end.appendLine(nil)); err != nil {
		return err
	}
	l.saved = l.end
	l.show(&l.end)
	return nil
}

// sync makes the log and the index durable up to their ends.
func (l *log) sync() error {
	if err := l.save(); err != nil {
		return err
	}
	return l.index.Sync()
}

// show lets readers see what has been written, and a new checkpoint.
func (l *log) show(added *checkpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shownEnd = l.end
	if added != nil {
		l.checkpoints = append(l.checkpoints, *added)
	}
}

// setAside begins the log anew. What was there stays under another name for people to look at.
func (l *log) setAside() error {
	if err := l.close(); err != nil {
		return err
	}
	if err := os.Rename(l.path, l.path+".damaged"); err != nil {
		return err
	}
	if err := os.Remove(l.indexPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh, err := openLog(filepath.Dir(l.path), l.city)
	if err != nil {
		return err
	}
	if err := storage.SyncFolder(filepath.Dir(l.path)); err != nil {
		return errors.Join(err, fresh.close())
	}
	l.file, l.index = fresh.file, fresh.index
	l.buffer, l.end, l.saved, l.replayed = nil, checkpoint{}, checkpoint{}, nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shownEnd, l.checkpoints = checkpoint{}, nil
	return nil
}

// hold keeps a record back until the gap before it is closed. If there are too many, all are dropped: they will be
// fetched like those before them.
func (l *log) hold(record fsm.Record, limit int) {
	if l.pendingSize += len(record.Line); l.pendingSize > limit {
		l.pending, l.pendingSize = nil, len(record.Line)
	}
	l.pending = append(l.pending, record)
}

// release appends the records held back that follow on the end of the log. It returns false if the first of them does
// not: there is still a gap.
func (l *log) release() (closed bool, err error) {
	l.pending = slices.DeleteFunc(l.pending, func(r fsm.Record) bool { return r.Number < l.end.records })
	if len(l.pending) > 0 && l.pending[0].Number > l.end.records {
		return false, nil
	}
	for _, record := range l.pending {
		if err := l.append(record.Line); err != nil {
			return false, err
		}
	}
	l.pending, l.pendingSize = nil, 0
	return true, nil
}
