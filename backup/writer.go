package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"dems"
)

// Writer writes a backup: first the state, then the records of each city's log, in the order of the cities. It holds one
// chunk in memory, and each Write that it does is one chunk or less. After an error nothing more is written.
type Writer struct {
	to       io.Writer
	hasher   hash.Hash
	progress progress
	buffer   []byte    // the chunk that is open, its kind and length included; empty if none is
	city     dems.City // of the records in it
	stage    kind      // what was written last
	err      error     // the first one
}

// NewWriter writes the head.
func NewWriter(to io.Writer, head Head) (*Writer, error) {
	w := &Writer{
		to: to, hasher: sha256.New(), progress: progress{logs: head.Logs}, stage: headKind,
		buffer: make([]byte, 0, chunkHead+len(dems.City{})+chunkBytes+checksumBytes),
	}
	w.write(append([]byte(magic), version))
	w.begin(headKind)
	w.buffer = head.append(w.buffer)
	w.flush()
	return w, w.err
}

// State returns what the state is written to: a snapshot, all of it.
func (w *Writer) State() io.Writer { return stateWriter{w} }

// stateWriter cuts a snapshot into chunks.
type stateWriter struct{ *Writer }

// Write implements io.Writer.
func (s stateWriter) Write(data []byte) (int, error) {
	w, written := s.Writer, 0
	if w.stage > stateKind && w.err == nil {
		w.err = errors.New("backup: the state comes before the records")
	}
	for len(data) > 0 && w.err == nil {
		w.stage = stateKind
		if len(w.buffer) == 0 {
			w.begin(stateKind)
		}
		count := min(len(data), chunkHead+chunkBytes-len(w.buffer))
		w.buffer = append(w.buffer, data[:count]...)
		data, written = data[count:], written+count
		if len(w.buffer) == chunkHead+chunkBytes {
			w.flush()
		}
	}
	return written, w.err
}

// Records adds records to a city's log: whole lines, which follow on those before.
func (w *Writer) Records(city dems.City, lines []byte) error {
	if w.stage < stateKind && w.err == nil {
		w.err = errors.New("backup: the state comes before the records")
	}
	if w.err != nil {
		return w.err
	}
	if err := w.progress.lines(city, lines); err != nil {
		w.err = fmt.Errorf("backup: %w", err)
		return w.err
	}
	for w.stage = recordsKind; len(lines) > 0 && w.err == nil; {
		line := firstLine(lines)
		if kind := w.open(); kind != 0 && (kind != recordsKind || w.city != city || len(w.buffer)+len(line) > recordsLimit) {
			w.flush()
		}
		if len(w.buffer) == 0 {
			w.begin(recordsKind)
			w.buffer, w.city = append(w.buffer, city[:]...), city
		}
		w.buffer = append(w.buffer, line...)
		lines = lines[len(line):]
	}
	return w.err
}

// recordsLimit is how long a chunk of records may be, its kind, length and city included.
const recordsLimit = chunkHead + len(dems.City{}) + chunkBytes

// Close writes the end, if everything that the head names is there. It does not close what is written to.
func (w *Writer) Close() error {
	if w.stage < stateKind && w.err == nil {
		w.err = errors.New("backup: there is no state")
	}
	w.flush()
	if err := w.progress.finish(); err != nil && w.err == nil {
		w.err = fmt.Errorf("backup: %w", err)
	}
	w.write([]byte{byte(trailerKind)})
	w.write(w.hasher.Sum(nil))
	if w.err != nil {
		return w.err
	}
	w.err = errors.New("backup: it is closed")
	return nil
}

// open returns the kind of the chunk that is open, 0 if none is.
func (w *Writer) open() kind {
	if len(w.buffer) == 0 {
		return 0
	}
	return kind(w.buffer[0])
}

func (w *Writer) begin(of kind) { w.buffer = append(w.buffer[:0], byte(of), 0, 0, 0, 0) }

// flush writes the chunk that is open.
func (w *Writer) flush() {
	if len(w.buffer) == 0 {
		return
	}
	binary.LittleEndian.PutUint32(w.buffer[1:], uint32(len(w.buffer)-chunkHead))
	w.write(binary.LittleEndian.AppendUint32(w.buffer, crc32.Checksum(w.buffer, castagnoli)))
	w.buffer = w.buffer[:0]
}

func (w *Writer) write(data []byte) {
	if w.err != nil {
		return
	}
	_, _ = w.hasher.Write(data) // never fails
	if _, err := w.to.Write(data); err != nil {
		w.err = fmt.Errorf("write backup: %w", err)
	}
}
