package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"

	"dems"
	"dems/fsm"
)

// Reader reads a backup and checks what it reads: the head, then the state, then the records, and that nothing follows. What it
// has returned before it finds damage may be damaged, too: only io.EOF of Records says that all of it was right. It holds
// one chunk in memory. Errors wrap ErrDamaged, or are those of what is read from.
type Reader struct {
	from     io.Reader
	hasher   hash.Hash // of everything read
	size     int64     // of that, in bytes
	head     Head
	progress progress

	kind    kind      // of the chunk at hand
	length  int       // of its payload
	city    dems.City // of records
	payload []byte    // what of it has not been returned
	buffer  []byte    // holds it
	err     error     // the first one
}

// NewReader reads the head.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{from: from, hasher: sha256.New()}
	if err := r.begin(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Reader) begin() error {
	start := make([]byte, len(magic)+1)
	if err := r.read(start); err != nil {
		return err
	}
	if string(start[:len(magic)]) != magic {
		return damaged("this is no backup")
	}
	if got := start[len(magic)]; got != version {
		return damaged("it has version %d of the format, and this program reads only version %d", got, version)
	}
	if r.next(); r.err != nil {
		return r.err
	}
	if r.kind != headKind {
		return damaged("it does not begin with its head")
	}
	head, err := decodeHead(r.payload)
	if err != nil {
		return err
	}
	r.head, r.progress.logs = head, head.Logs
	if r.next(); r.err == nil && r.kind != stateKind {
		return damaged("there is no state")
	}
	return r.err
}

// Head returns what the backup is of, by its own word.
func (r *Reader) Head() Head { return r.head }

// Size returns how many bytes have been read.
func (r *Reader) Size() int64 { return r.size }

// State returns what the state is read from. It ends where the state does.
func (r *Reader) State() io.Reader { return stateReader{r} }

type stateReader struct{ *Reader }

// Read implements io.Reader.
func (s stateReader) Read(data []byte) (int, error) {
	r := s.Reader
	for r.err == nil && r.kind == stateKind && len(r.payload) == 0 {
		r.next()
	}
	switch {
	case r.err != nil:
		return 0, r.err
	case r.kind != stateKind:
		return 0, io.EOF
	}
	count := copy(data, r.payload)
	r.payload = r.payload[count:]
	return count, nil
}

// Records returns the next records: whole lines of a city's log, which belong to the reader until the next call. What is left of
// the state is passed over. At the end, when everything was as it was written, it returns io.EOF.
func (r *Reader) Records() (city dems.City, lines []byte, err error) {
	for r.err == nil && r.kind != trailerKind && (r.kind == stateKind || len(r.payload) == 0) {
		r.next()
	}
	switch {
	case r.err != nil:
		return dems.City{}, nil, r.err
	case r.kind == trailerKind:
		return dems.City{}, nil, io.EOF
	}
	lines, r.payload = r.payload, nil
	return r.city, lines, nil
}

// next reads the next chunk, or the trailer, if nothing was wrong so far.
func (r *Reader) next() {
	if r.err == nil {
		r.err = r.readChunk()
	}
}

func (r *Reader) readChunk() error {
	before, length, city := r.kind, r.length, r.city
	start := make([]byte, chunkHead)
	if err := r.read(start[:1]); err != nil {
		return err
	}
	r.kind = kind(start[0])
	if r.kind == trailerKind {
		return r.finish()
	}
	if r.kind < headKind || r.kind > trailerKind || r.kind < before || r.kind == headKind && before == headKind {
		return damaged("a chunk of kind %d after one of kind %d", r.kind, before)
	}
	if err := r.read(start[1:]); err != nil {
		return err
	}
	announced := binary.LittleEndian.Uint32(start[1:])
	most := map[kind]int{headKind: headBytes, stateKind: chunkBytes, recordsKind: len(city) + chunkBytes}[r.kind]
	if announced == 0 || announced > uint32(most) {
		return damaged("a chunk of %d bytes", announced)
	}
	r.length = int(announced)
	r.buffer = append(slices.Grow(r.buffer[:0], chunkHead+r.length+checksumBytes), start...)
	chunk := r.buffer[:chunkHead+r.length+checksumBytes]
	if err := r.read(chunk[chunkHead:]); err != nil {
		return err
	}
	whole, checksum := chunk[:chunkHead+r.length], chunk[chunkHead+r.length:]
	if crc32.Checksum(whole, castagnoli) != binary.LittleEndian.Uint32(checksum) {
		return damaged("a chunk of kind %d has a wrong checksum", r.kind)
	}
	r.payload = whole[chunkHead:]
	switch {
	case r.kind == stateKind && before == stateKind && length != chunkBytes:
		return damaged("a chunk of the state has %d bytes only", length)
	case r.kind == recordsKind:
		again := before == recordsKind
		return r.takeRecords(again, length, city)
	}
	return nil
}

// takeRecords checks a chunk of records. again tells whether it follows on another one, of that length and city.
func (r *Reader) takeRecords(again bool, length int, city dems.City) error {
	if len(r.payload) <= len(r.city) {
		return damaged("a chunk without a record")
	}
	r.city = dems.City(r.payload[:len(r.city)])
	r.payload = r.payload[len(r.city):]
	if again && r.city == city && length+len(firstLine(r.payload)) <= len(city)+chunkBytes {
		return damaged("a chunk of records has %d bytes only", length)
	}
	if err := r.progress.lines(r.city, r.payload); err != nil {
		return damaged("%v", err)
	}
	return nil
}

// finish checks the end.
func (r *Reader) finish() error {
	computed, stored := r.hasher.Sum(nil), make([]byte, sha256.Size)
	if err := r.read(stored); err != nil {
		return err
	}
	if !bytes.Equal(computed, stored) {
		return damaged("its checksum is wrong")
	}
	if count, err := io.ReadFull(r.from, make([]byte, 1)); count != 0 {
		return damaged("something follows on its end")
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read backup: %w", err)
	}
	if err := r.progress.finish(); err != nil {
		return damaged("%v", err)
	}
	return nil
}

// read reads exactly as much as fits into data.
func (r *Reader) read(data []byte) error {
	count, err := io.ReadFull(r.from, data)
	r.size += int64(count)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return damaged("it is truncated")
	case err != nil:
		return fmt.Errorf("read backup: %w", err)
	}
	_, _ = r.hasher.Write(data) // never fails
	return nil
}

// Verify reads a backup to its end and checks all of it, the digest that the records of the state have included, in a few
// megabytes of memory. It returns what the backup is of and how many bytes it has. Only restoring it shows more: whether the
// records contradict each other.
func Verify(from io.Reader) (Head, int64, error) {
	r, err := NewReader(from)
	if err != nil {
		return Head{}, 0, err
	}
	survey, err := fsm.SurveySnapshot(r.State(), r.head.Cities)
	if err == nil {
		err = r.head.Describes(survey.Origin, survey.Logs)
	}
	if errors.Is(err, fsm.ErrSnapshot) && r.err == nil { // else the reader knows better what is wrong
		err = damaged("its state: %v", err)
	}
	for err == nil {
		_, _, err = r.Records()
	}
	if !errors.Is(err, io.EOF) {
		return Head{}, 0, err
	}
	return r.head, r.size, nil
}

// Describes makes sure that the head is that of a backup of a state.
func (h *Head) Describes(origin dems.Origin, logs []fsm.CityLog) error {
	if h.Origin != origin {
		return damaged("it says that it is %s, and holds %s", h.Origin, origin)
	}
	for i := range logs {
		if i >= len(h.Logs) || logs[i] != h.Logs[i] {
			return damaged("its head does not say of the log of %s what its state says", logs[i].City)
		}
	}
	return nil
}
