package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/backup"
	"dems/client"
	"dems/internal/onenode"
)

// busy returns a system in which something was booked.
func busy(t *testing.T, frontEnds int) *system {
	t.Helper()
	s := start(t, "TORM0001", frontEnds, func(config *client.Config) { config.Timeout = 5 * time.Second })
	event := eventKey(t, dems.Seminar, "TORM100519")
	if _, err := s.AddEvent(t.Context(), event, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.As(userID(t, "MTLC0001")).BookEvent(t.Context(), userID(t, "MTLC0001"), event); err != nil {
		t.Fatal(err)
	}
	return s
}

// wantFiles checks what is in a folder.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("the folder has %v, want %v", names, want)
	}
}

func TestSaveBackup(t *testing.T) {
	s := busy(t, 1)
	dir := t.TempDir()
	path := filepath.Join(dir, "tonight")
	last := int64(0)
	view, err := s.SaveBackup(t.Context(), path, client.SaveOptions{Progress: func(bytes int64) { last = bytes }})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, "tonight")
	info, err := os.Stat(path)
	if err != nil || info.Size() != view.Bytes || last != view.Bytes || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, %+v, last told %d", info, err, view, last)
	}
	if view.Agreeing != 2 || view.Asked != 3 || view.Endpoint != s.frontEnds[0].URL || !slices.Equal(view.Records, []uint64{1, 0, 2}) {
		t.Errorf("%+v", view)
	}
	alone, err := client.VerifyBackup(path)
	if err != nil || alone.Origin != view.Origin || alone.Bytes != view.Bytes || alone.Asked != 0 || alone.Cities.String() != dems.DefaultCities().String() {
		t.Errorf("%+v, %v", alone, err)
	}
}

// TestNoBackupIsOverwritten unless that is wanted, and then only by a whole one.
func TestNoBackupIsOverwritten(t *testing.T) {
	s := busy(t, 1)
	dir := t.TempDir()
	path := filepath.Join(dir, "tonight")
	if err := os.WriteFile(path, []byte("yesterday's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SaveBackup(t.Context(), path, client.SaveOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if len(s.frontEnds[0].Requests()) != 2 {
		t.Error("it was asked for nevertheless")
	}
	broken := frontEndOf(t, dems.Origin{Index: 1}, func(w http.ResponseWriter) { _, _ = w.Write([]byte("half")) })
	_, err := broken.SaveBackup(t.Context(), path, client.SaveOptions{Overwrite: true})
	wantError(t, err, dems.Unavailable)
	if text, err := os.ReadFile(path); err != nil || string(text) != "yesterday's" {
		t.Errorf("%q, %v", text, err)
	}
	wantFiles(t, dir, "tonight")
	if _, err := s.SaveBackup(t.Context(), path, client.SaveOptions{Overwrite: true}); err != nil {
		t.Error(err)
	}
	if _, err := client.VerifyBackup(path); err != nil {
		t.Error(err)
	}
	wantFiles(t, dir, "tonight")
}

// TestFileThatComesMeanwhile is not overwritten either.
func TestFileThatComesMeanwhile(t *testing.T) {
	s := busy(t, 1)
	path := filepath.Join(t.TempDir(), "tonight")
	_, err := s.SaveBackup(t.Context(), path, client.SaveOptions{Progress: func(int64) {
		if err := os.WriteFile(path, []byte("somebody's"), 0o600); err != nil {
			t.Error(err)
		}
	}})
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	wantFiles(t, filepath.Dir(path), "tonight")
}

func TestBackupThatCannotBeWritten(t *testing.T) {
	s := busy(t, 1)
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "nowhere", "tonight"), dir} {
		_, err := s.SaveBackup(t.Context(), path, client.SaveOptions{Overwrite: true})
		if _, about := errors.AsType[*client.Error](err); err == nil || about {
			t.Errorf("%s: %v", path, err)
		}
	}
	wantFiles(t, dir)
	if len(s.frontEnds[0].Requests()) != 2 {
		t.Error("it was asked for nevertheless")
	}
}

// TestBackupAfterFailures asks the next front end, and the same again, where one fails in any way.
func TestBackupAfterFailures(t *testing.T) {
	for _, fault := range []onenode.Fault{onenode.CutBefore, onenode.CutAfter, onenode.CutInside, onenode.NotOurs, onenode.BadGateway} {
		s := busy(t, 2)
		s.frontEnds[0].Fault(fault)
		path := filepath.Join(t.TempDir(), "tonight")
		view, err := s.SaveBackup(t.Context(), path, client.SaveOptions{})
		answered := fault == onenode.NotOurs || fault == onenode.BadGateway // else net/http may have asked the same again by itself
		if err != nil || answered && view.Endpoint != s.frontEnds[1].URL {
			t.Errorf("%s: %+v, %v", fault, view, err)
			continue
		}
		if _, err := client.VerifyBackup(path); err != nil {
			t.Errorf("%s: %v", fault, err)
		}
	}
	s := busy(t, 1)
	s.cluster.Fail(dems.RateLimited, dems.NoMajority)
	if _, err := s.SaveBackup(t.Context(), filepath.Join(t.TempDir(), "tonight"), client.SaveOptions{}); err != nil {
		t.Errorf("after refusals: %v", err)
	}
}

func TestBackupThatIsNotGiven(t *testing.T) {
	s := start(t, "", 1, func(config *client.Config) { config.Timeout = 300 * time.Millisecond })
	dir := t.TempDir()
	path := filepath.Join(dir, "tonight")
	for range 1000 {
		s.cluster.Fail(dems.NoMajority)
	}
	_, err := s.SaveBackup(t.Context(), path, client.SaveOptions{})
	wantError(t, err, dems.NoMajority)
	s = start(t, "", 1, func(config *client.Config) { config.Timeout = 300 * time.Millisecond })
	s.frontEnds[0].Fault(onenode.Hang)
	_, err = s.SaveBackup(t.Context(), path, client.SaveOptions{})
	wantError(t, err, dems.Unavailable)
	if !strings.Contains(err.Error(), "Nothing of a backup came for 300ms") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.SaveBackup(ctx, path, client.SaveOptions{})
	wantError(t, err, dems.Unavailable)
	wantFiles(t, dir)
}

func TestBackupWithoutAName(t *testing.T) {
	s := start(t, "", 1, nil)
	s.frontEnds[0].Fault(onenode.Hang) // it is not even asked
	if _, err := s.SaveBackup(t.Context(), "", client.SaveOptions{}); err == nil || !strings.Contains(err.Error(), "name a file") {
		t.Error(err)
	}
}

// frontEndOf is a front end that gives whatever it is told to.
func frontEndOf(t *testing.T, origin dems.Origin, give func(w http.ResponseWriter)) *client.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Dems-Sequence", strconv.FormatUint(origin.Index, 10))
		w.Header().Set("Dems-Digest", origin.Digest.String())
		w.Header().Set("Dems-Votes", "2/3")
		give(w)
	}))
	t.Cleanup(server.Close)
	config := client.DefaultConfig()
	config.Endpoints, config.MinBackoff, config.MaxBackoff, config.Timeout = []string{server.URL}, time.Millisecond, time.Millisecond, 2*time.Second
	return newClient(t, config)
}

// TestDamagedBackupIsNotSaved has a backup be damaged in transit, end early, be longer, or be another one than the nodes have
// confirmed.
func TestDamagedBackupIsNotSaved(t *testing.T) {
	view, right := saved(t)
	flipped := func(at int) []byte {
		damaged := slices.Clone(right)
		damaged[at] ^= 0x10
		return damaged
	}
	otherIndex, otherDigest := view.Origin, view.Origin
	otherIndex.Index++
	otherDigest.Digest[7]++
	for name, test := range map[string]struct {
		origin dems.Origin
		data   []byte
		want   string
	}{
		"as it is":                 {view.Origin, right, ""},
		"head flipped":             {view.Origin, flipped(20), "damaged backup"},
		"state flipped":            {view.Origin, flipped(bytes.Index(right, []byte("DEMSSNAP")) + 50), "damaged backup"},
		"record flipped":           {view.Origin, flipped(bytes.Index(right, []byte("MTLC0001"))), "damaged backup"},
		"checksum flipped":         {view.Origin, flipped(len(right) - 1), "damaged backup"},
		"cut":                      {view.Origin, right[:len(right)/2], "truncated"},
		"empty":                    {view.Origin, nil, "truncated"},
		"longer":                   {view.Origin, append(slices.Clone(right), '\n'), "follows on its end"},
		"not what was confirmed":   {otherDigest, right, "have confirmed"},
		"of another index":         {otherIndex, right, "have confirmed"},
		"not what it says":         {view.Origin, []byte("<html>"), "truncated"},
		"nothing that is a backup": {view.Origin, []byte("<html>not found</html>"), "this is no backup"},
	} {
		asked := 0
		c := frontEndOf(t, test.origin, func(w http.ResponseWriter) { asked++; _, _ = w.Write(test.data) })
		dir := t.TempDir()
		_, err := c.SaveBackup(t.Context(), filepath.Join(dir, "tonight"), client.SaveOptions{})
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantError(t, err, dems.Unavailable)
		if !strings.Contains(err.Error(), test.want) || asked != 3 {
			t.Errorf("%s: asked %d times, %v; want an error with %q", name, asked, err, test.want)
		}
		wantFiles(t, dir)
		if test.data == nil {
			continue
		}
		file := filepath.Join(t.TempDir(), "damaged")
		if err := os.WriteFile(file, test.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.VerifyBackup(file); !strings.Contains(test.want, "confirmed") && !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%s, from a file: %v", name, err)
		}
	}
}

// roundTrip is a front end without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// slowBody is the body of an answer that comes in pieces, each after a pause; after so many of them nothing comes any more.
type slowBody struct {
	ctx    context.Context
	data   []byte
	pause  time.Duration
	pieces int
}

func (b *slowBody) Read(into []byte) (int, error) {
	if b.pieces--; b.pieces == 0 {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	time.Sleep(b.pause)
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	count := copy(into, b.data[:min(len(b.data), 100)])
	b.data = b.data[count:]
	return count, nil
}

func (b *slowBody) Close() error { return nil }

// slowly returns a client of a front end that gives a backup in pieces.
func slowly(t *testing.T, of *client.BackupView, data []byte, pause, timeout time.Duration, pieces int) *client.Client {
	config := client.DefaultConfig()
	config.Timeout = timeout
	config.RoundTripper = roundTrip(func(request *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{
			"Content-Type": {"application/octet-stream"}, "Dems-Digest": {of.Origin.Digest.String()},
			"Dems-Sequence": {strconv.FormatUint(of.Origin.Index, 10)},
		}, Body: &slowBody{request.Context(), data, pause, pieces}}, nil
	})
	return newClient(t, config)
}

// saved returns a backup.
func saved(t *testing.T) (*client.BackupView, []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "right")
	view, err := busy(t, 1).SaveBackup(t.Context(), path, client.SaveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return view, data
}

// TestBackupMayTakeLongerThanTheTimeout as long as something comes, and not when nothing comes any more.
func TestBackupMayTakeLongerThanTheTimeout(t *testing.T) {
	view, right := saved(t)
	dir := t.TempDir()
	for _, pieces := range []int{1 << 30, 5} {
		synctest.Test(t, func(t *testing.T) {
			const pause, timeout = time.Minute, time.Minute + time.Second
			started := time.Now()
			_, err := slowly(t, view, right, pause, timeout, pieces).SaveBackup(t.Context(), filepath.Join(dir, strconv.Itoa(pieces)), client.SaveOptions{})
			took := time.Since(started)
			if pieces == 5 {
				if wantError(t, err, dems.Unavailable); took != 4*pause+timeout {
					t.Errorf("given up after %v", took)
				}
			} else if err != nil || took < 5*timeout {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
	wantFiles(t, dir, strconv.Itoa(1<<30))
}

// TestInterruptedBackupLeavesNothing ends the context in the middle.
func TestInterruptedBackupLeavesNothing(t *testing.T) {
	view, right := saved(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		progress := func(bytes int64) {
			if bytes >= 300 {
				cancel()
			}
		}
		_, err := slowly(t, view, right, time.Second, time.Minute, 7).SaveBackup(ctx, filepath.Join(dir, "tonight"), client.SaveOptions{Progress: progress})
		wantError(t, err, dems.Unavailable)
	})
	wantFiles(t, dir)
}
