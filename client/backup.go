package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"dems"
	"dems/backup"
)

const (
	streamType = "application/octet-stream"
	// maxBroken is how many backups may break off, or turn out to be damaged, before that is the answer.
	maxBroken = 3
	// maxProblemBytes is the largest answer that is no backup, in bytes.
	maxProblemBytes = 1 << 20
	// saveBuffer is how many bytes of a backup are written to the disk at once.
	saveBuffer = 1 << 20
)

// SaveOptions says how a backup is saved.
type SaveOptions struct {
	// Overwrite lets a file of that name be replaced, once the backup is whole.
	Overwrite bool
	// Progress is called with the bytes that have come, now and then, on the goroutine of the call. Nil: it is not.
	Progress func(bytes int64)
}

// BackupView is what a backup is of. All of it was checked.
type BackupView struct {
	Origin   dems.Origin
	Cities   dems.Cities
	Records  []uint64 // of the cities' logs, in the order of the cities
	Bytes    int64
	Agreeing int // of Asked nodes had that state at that index; 0 where a file alone was looked at
	Asked    int
	Endpoint string // the front end that gave it; "" where a file alone was looked at
}

// SaveBackup saves a backup in a file: the state and the city logs, with everything that was acknowledged before. The file is there
// when all of it has come and was checked: that it is whole, that its records have the digest that a majority of the nodes has
// confirmed, and that it is on the disk. If anything fails before, or the context ends, nothing is left. It takes a few megabytes of
// memory. Config.Timeout bounds how long nothing may come. It needs no identity.
//
// The error is an *Error where it is about front ends, and another one where it is about the file.
func (c *Client) SaveBackup(ctx context.Context, path string, options SaveOptions) (*BackupView, error) {
	if err := checkFree(path, options.Overwrite); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, notWritten(err)
	}
	s := &saving{client: c, file: file, options: options}
	view, err := s.run(ctx)
	if closing := file.Close(); err == nil && closing != nil {
		err = notWritten(closing)
	}
	if err == nil {
		err = publish(file.Name(), path, options.Overwrite)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // what went wrong is said already
		return nil, err
	}
	return view, nil
}

// VerifyBackup checks all of a backup in a file and returns what it is of. Only restoring it shows more: whether the records
// contradict each other.
func VerifyBackup(path string) (*BackupView, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read
	head, size, err := backup.Verify(bufio.NewReaderSize(file, saveBuffer))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return viewOf(&head, size), nil
}

func viewOf(head *backup.Head, size int64) *BackupView {
	view := &BackupView{Origin: head.Origin, Cities: head.Cities, Bytes: size}
	for i := range head.Logs {
		view.Records = append(view.Records, head.Logs[i].Records)
	}
	return view
}

// checkFree makes sure that nothing is replaced that should not be.
func checkFree(path string, overwrite bool) error {
	if path == "" {
		return errors.New("the name of the backup is empty: name a file")
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return notWritten(err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file: choose another name for the backup", path)
	case !overwrite:
		return fmt.Errorf("%s: %w: choose another name, or have it overwritten", path, fs.ErrExist)
	}
	return nil
}

// publish gives a whole backup its name.
func publish(from, to string, overwrite bool) error {
	if err := checkFree(to, overwrite); err != nil { // it may have come while the backup did
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return notWritten(err)
	}
	folder, err := os.Open(filepath.Dir(to))
	if err != nil {
		return notWritten(err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return notWritten(err)
	}
	return nil
}

func notWritten(err error) error { return fmt.Errorf("the backup cannot be written: %w", err) }

// saving is a backup on its way into a file.
type saving struct {
	client  *Client
	file    *os.File
	options SaveOptions
	stall   *time.Timer // ends everything where nothing comes
	broken  int         // attempts that broke off
	view    *BackupView
	err     error // about the file: nothing helps against it
}

// run asks front ends until one has given a whole backup.
func (s *saving) run(ctx context.Context) (*BackupView, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.stall = time.AfterFunc(s.client.config.Timeout, func() { cancel(errStalled) })
	defer s.stall.Stop()
	r := &request{method: http.MethodGet, path: "/v1/snapshot", accept: streamType}
	failed := s.client.try(ctx, r, func(ctx context.Context, endpoint string, others bool) *failure {
		return s.attempt(ctx, r, endpoint)
	})
	switch {
	case s.err != nil:
		return nil, notWritten(s.err)
	case failed != nil && failed.Status == 0 && errors.Is(context.Cause(ctx), errStalled):
		failed.Detail = fmt.Sprintf("Nothing of a backup came for %v; look at the cluster, or allow more time.", s.client.config.Timeout)
		return nil, failed
	case failed != nil:
		return nil, failed
	}
	if err := s.file.Sync(); err != nil {
		return nil, notWritten(err)
	}
	return s.view, nil
}

var errStalled = errors.New("nothing comes")

// attempt asks one front end for a backup and takes it.
func (s *saving) attempt(ctx context.Context, r *request, endpoint string) *failure {
	question, err := s.client.question(ctx, endpoint, r)
	if err != nil {
		return &failure{err: &Error{Code: dems.Internal, Detail: "The request cannot be made.", Err: err}}
	}
	answer, err := s.client.http.Do(question)
	if err != nil {
		return &failure{err: unreachable(endpoint, err), again: later}
	}
	defer answer.Body.Close()
	mediaType, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if answer.StatusCode != http.StatusOK || mediaType != streamType {
		body, err := io.ReadAll(io.LimitReader(answer.Body, maxProblemBytes))
		if err != nil {
			return &failure{err: unreachable(endpoint, err), again: later}
		}
		return judge(endpoint, r, answer, body)
	}
	err = s.take(answer)
	switch {
	case err == nil:
		s.view.Endpoint = endpoint
		return nil
	case s.err != nil:
		return &failure{err: &Error{Code: dems.Internal, Err: s.err}} // run tells about it
	}
	failed := &failure{again: later, err: &Error{
		Code: dems.Unavailable, Detail: "What came is no whole backup, and nothing was saved; ask again.", Endpoint: endpoint,
		Err: fmt.Errorf("%s: %w", endpoint, err),
	}}
	if s.broken++; s.broken >= maxBroken {
		failed.again = never
	}
	return failed
}

// take writes a backup into the file while it checks it.
func (s *saving) take(answer *http.Response) error {
	if _, s.err = s.file.Seek(0, io.SeekStart); s.err == nil {
		s.err = s.file.Truncate(0)
	}
	if s.err != nil {
		return s.err
	}
	to := bufio.NewWriterSize(s.file, saveBuffer)
	head, size, err := backup.Verify(io.TeeReader(&watched{from: answer.Body, saving: s}, writerFunc(func(data []byte) (count int, err error) {
		count, s.err = to.Write(data)
		return count, s.err
	})))
	if err != nil {
		return err
	}
	if s.err = to.Flush(); s.err != nil {
		return s.err
	}
	promised := dems.Origin{Index: headerNumber(answer.Header, "Dems-Sequence")}
	promised.Digest, _ = dems.ParseDigest(answer.Header.Get("Dems-Digest"))
	if head.Origin != promised {
		return fmt.Errorf("the nodes have confirmed %s, and what came is %s", promised, head.Origin)
	}
	s.view = viewOf(&head, size)
	voted := newReply(new(request), &response{header: answer.Header})
	s.view.Agreeing, s.view.Asked = voted.Agreeing, voted.Asked
	return nil
}

type writerFunc func([]byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(data []byte) (int, error) { return f(data) }

// watched is a backup that is being read: as long as something comes, it may take as long as it takes.
type watched struct {
	from   io.Reader
	saving *saving
	bytes  int64
}

// Read implements io.Reader.
func (w *watched) Read(data []byte) (int, error) {
	count, err := w.from.Read(data)
	if count > 0 {
		w.saving.stall.Reset(w.saving.client.config.Timeout)
	}
	if w.bytes += int64(count); w.saving.options.Progress != nil {
		w.saving.options.Progress(w.bytes)
	}
	return count, err
}
