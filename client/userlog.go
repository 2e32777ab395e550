package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dems"
)

// maxLoggedBytes is the largest answer that a user log repeats, in bytes; of a larger one it tells the size.
const maxLoggedBytes = 64 << 10

// The statuses of a user log record.
const (
	statusSent       = "sent"        // on its way; without a later record of the same id, no response ever came
	statusCompleted  = "completed"   // done
	statusFailed     = "failed"      // refused, or certainly not applied; the response says why
	statusUnknown    = "unknown"     // a response came, but it may have been applied or not
	statusNoResponse = "no response" // none came; the code says whether it may have been applied
)

// UserLog is a folder with a text file for each user, TORM2345.log, that tells what the user asked for and what came
// back. Each operation leaves two JSON lines with the same id: one before it is sent, status "sent", and one with what came of
// it. So a client that is killed in between leaves a line that says that there is no response. Lines are appended
// whole, so that any number of clients may share a folder. It is safe for concurrent use.
type UserLog struct {
	folder string
	now    func() time.Time
}

// UserLogError is why an operation was not recorded. Where it comes from an operation, the operation was not sent.
type UserLogError struct {
	Path string
	Err  error
}

// Error implements error.
func (e *UserLogError) Error() string {
	cause := e.Err
	if failed, ok := errors.AsType[*fs.PathError](cause); ok {
		cause = failed.Err
	}
	return fmt.Sprintf("cannot write the user log %s: %v; choose a folder that can be written", e.Path, cause)
}

// Unwrap returns the cause.
func (e *UserLogError) Unwrap() error { return e.Err }

// OpenUserLog returns the user log in a folder, which it makes where it is missing, for its owner alone. The error is a
// *UserLogError.
func OpenUserLog(folder string) (*UserLog, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, &UserLogError{Path: folder, Err: err}
	}
	return &UserLog{folder: folder, now: time.Now}, nil
}

// DefaultLogFolder returns the folder of user logs where none was named: $DEMS_LOG_DIR, else $XDG_STATE_HOME/dems/logs,
// else ~/.local/state/dems/logs. The environment is read through getenv, for example os.Getenv.
func DefaultLogFolder(getenv func(string) string) (string, error) {
	if folder := getenv("DEMS_LOG_DIR"); folder != "" {
		return folder, nil
	}
	// A relative path in XDG_STATE_HOME is to be ignored, says the XDG base directory specification.
	if state := getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "dems", "logs"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", errors.New("there is no folder for user logs: none of DEMS_LOG_DIR, XDG_STATE_HOME and HOME is set")
	}
	return filepath.Join(home, ".local", "state", "dems", "logs"), nil
}

// Path returns the file of a user.
func (l *UserLog) Path(user dems.UserID) string {
	return filepath.Join(l.folder, user.String()+".log")
}

// logRecord is one line of a user log.
type logRecord struct {
	Time     string `json:"time"` // RFC 3339, UTC
	ID       string `json:"id"`   // the idempotency key; of a read a random one
	Op       string `json:"op"`
	By       string `json:"by"`
	Status   string `json:"status"`
	Sequence uint64 `json:"sequence,omitempty"`
	Replayed bool   `json:"replayed,omitempty"`
	parameters
	Response any `json:"response"`
}

// parameters are an operation's, under the names that logs use.
type parameters struct {
	CustomerID   string `json:"customerID,omitempty"`
	EventID      string `json:"eventID,omitempty"`
	EventType    string `json:"eventType,omitempty"`
	Capacity     uint32 `json:"capacity,omitempty"`
	Bookings     string `json:"bookings,omitempty"`
	NewEventID   string `json:"newEventID,omitempty"`
	NewEventType string `json:"newEventType,omitempty"`
	OldEventID   string `json:"oldEventID,omitempty"`
	OldEventType string `json:"oldEventType,omitempty"`
}

// loggedRefusal is the response of an operation that did not succeed.
type loggedRefusal struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// logEntry is an operation that was recorded as sent. A nil logEntry records nothing.
type logEntry struct {
	log    *UserLog
	file   *os.File
	record logRecord
}

// begin records an operation before it is sent. The caller calls end.
func (l *UserLog) begin(user dems.UserID, op dems.Op, id string, of parameters) (*logEntry, error) {
	if l == nil {
		return nil, nil
	}
	path := l.Path(user)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, &UserLogError{Path: path, Err: err}
	}
	entry := &logEntry{log: l, file: file, record: logRecord{
		ID: id, Op: op.String(), By: user.String(), Status: statusSent, parameters: of, Response: "none yet",
	}}
	if err := entry.write(); err != nil {
		file.Close()
		return nil, err
	}
	return entry, nil
}

// end records what became of the operation.
func (e *logEntry) end(reply Reply, failed *Error) error {
	if e == nil {
		return nil
	}
	defer e.file.Close()
	r := &e.record
	r.Sequence, r.Replayed = reply.Sequence, reply.Replayed
	switch {
	case failed == nil:
		r.Status = statusCompleted
		r.Response = json.RawMessage(reply.Body)
		if len(reply.Body) > maxLoggedBytes {
			r.Response = fmt.Sprintf("%d bytes, too many for this log", len(reply.Body))
		}
	default:
		r.Status = failedStatus(failed)
		r.Sequence = failed.Sequence
		r.Response = loggedRefusal{Code: failed.Code.String(), Detail: failed.Detail}
	}
	return e.write()
}

func failedStatus(failed *Error) string {
	switch {
	case failed.Status == 0:
		return statusNoResponse
	case failed.Code == dems.Indeterminate || failed.Code == dems.NoMajority || failed.Code == dems.Internal:
		return statusUnknown
	}
	return statusFailed
}

// write appends the record as one line, with one write, so that lines of several clients do not mix.
func (e *logEntry) write() error {
	e.record.Time = e.log.now().UTC().Format("2006-01-02T15:04:05.000Z07:00")
	var line bytes.Buffer
	if e.endsInside() {
		line.WriteByte('\n')
	}
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(&e.record); err != nil {
		return &UserLogError{Path: e.file.Name(), Err: err}
	}
	if _, err := e.file.Write(line.Bytes()); err != nil {
		return &UserLogError{Path: e.file.Name(), Err: err}
	}
	return nil
}

// endsInside tells whether the file ends inside a line: a full disk or a power failure cut the last write short. A line
// that another client is just writing looks the same for some microseconds, hence the second looks.
func (e *logEntry) endsInside() bool {
	for range 10 {
		if !e.lacksLineFeed() {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return e.lacksLineFeed()
}

func (e *logEntry) lacksLineFeed() bool {
	size, err := e.file.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return false // what cannot be sought, a pipe say, has no end
	}
	last := [1]byte{}
	_, err = e.file.ReadAt(last[:], size-1)
	return err == nil && last[0] != '\n'
}
