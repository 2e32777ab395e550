package frontend

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

const snapshotHead = "GET /v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n"

// gives returns a cluster whose backup is these pieces; between answers what comes between two of them.
func gives(between func(ctx context.Context, number int) error, pieces ...string) *restFake {
	return &restFake{backup: func(ctx context.Context, begin func(Backup) (io.Writer, error)) error {
		to, err := begin(Backup{Origin: dems.Origin{Index: 812, Digest: dems.Digest{0xab, 15: 0xcd}}, Node: "n2", Agreeing: 2, Asked: 3})
		for number := 0; err == nil && number < len(pieces); number++ {
			if between != nil {
				err = between(ctx, number)
			}
			if err == nil {
				_, err = io.WriteString(to, pieces[number])
			}
		}
		return err
	}}
}

func TestSnapshot(t *testing.T) {
	h := newRESTTest(gives(nil, "DEMSBACK", " and so on"))
	response, body := send(t, h, validCalls["saveSnapshot"])
	want := "200\nCache-Control: no-store\nContent-Disposition: attachment; filename=\"dems-812.backup\"\nContent-Type: application/octet-stream\n" +
		"Dems-Digest: ab0000000000000000000000000000cd\nDems-Sequence: 812\nDems-Votes: 2/3\nDEMSBACK and so on"
	if got := transcript(response, body); got != want || response.Header.Get("Content-Length") != "" {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	response, body = send(t, h, validCalls["saveSnapshot"].with(func(c *call) { c.method = "HEAD" }))
	if response.Header.Get("Dems-Sequence") != "812" || body != "" || response.Header.Get("Content-Length") != "" {
		t.Errorf("HEAD: %v, %q", response.Header, body)
	}
}

func TestSnapshotThatIsNotGiven(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{&dems.Error{Code: dems.RateLimited}, 429, "rate_limited"},
		{&dems.Error{Code: dems.Unavailable, Detail: "No node gives one."}, 503, "unavailable"},
		{&dems.Error{Code: dems.NoMajority}, 503, "no_majority"},
		{context.Canceled, 503, "unavailable"},
		{errors.New("secret"), 500, "internal"},
	} {
		h := newRESTTest(&restFake{backup: func(context.Context, func(Backup) (io.Writer, error)) error { return test.err }})
		response, body := send(t, h, validCalls["saveSnapshot"])
		if response.StatusCode != test.status || !strings.Contains(body, `"code":"`+test.code+`"`) || strings.Contains(body, "secret") {
			t.Errorf("%v: %d %s", test.err, response.StatusCode, body)
		}
		if response.Header.Get("Dems-Digest") != "" {
			t.Errorf("%v: %v", test.err, response.Header)
		}
	}
}

// TestSnapshotMayTakeLong sends a backup that takes hours, and pauses in between that are longer than any request may take.
func TestSnapshotMayTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pieces = 200
		config := RESTConfig{Deadline: time.Second, WriteTimeout: time.Second, ReadTimeout: time.Second}
		connect := serve(t, gives(func(ctx context.Context, _ int) error {
			time.Sleep(time.Minute)
			return ctx.Err()
		}, strings.Split(strings.Repeat("0123456789,", pieces), ",")[:pieces]...), config)
		w := connect()
		w.write(snapshotHead)
		started := time.Now()
		status, header, body := w.read("GET")
		if status != 200 || header.Get("Dems-Digest") == "" || len(body) != 10*pieces {
			t.Errorf("%d %v, %d bytes", status, header, len(body))
		}
		if took := time.Since(started); took < pieces*time.Minute {
			t.Errorf("it took %v only", took)
		}
		w.write("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") // the connection is as good as before
		if status, _, body := w.read("GET"); status != 200 || body != "ok" {
			t.Errorf("then: %d %s", status, body)
		}
	})
}

// TestSnapshotThatBreaksOff cuts the connection: what has come does not look whole.
func TestSnapshotThatBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		connect := serve(t, gives(func(_ context.Context, number int) error {
			if number == 2 {
				return errors.New("the node is gone")
			}
			return nil
		}, "one", "two", "three"), RESTConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		w := connect()
		w.write(snapshotHead)
		response, err := http.ReadResponse(w.reader, &http.Request{Method: "GET"})
		if err != nil {
			return // cut before anything was flushed, which is as good
		}
		if body, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q, %v", body, err)
		}
		w.expectEnd()
		if text := log.String(); !strings.Contains(text, "not sent to its end") || !strings.Contains(text, "the node is gone") || !strings.Contains(text, "bytes=6") {
			t.Errorf("the log says %s", text)
		}
	})
}

// TestSnapshotThatNobodyReads is given up: neither the front end nor the node waits for ever.
func TestSnapshotThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		fake := gives(nil, strings.Repeat("x", 1<<20), strings.Repeat("y", 1<<20))
		give := fake.backup
		fake.backup = func(ctx context.Context, begin func(Backup) (io.Writer, error)) error {
			err := give(ctx, begin)
			ended <- err
			return err
		}
		connect := serve(t, fake, RESTConfig{WriteTimeout: 7 * time.Second})
		w := connect()
		started := time.Now()
		w.write(snapshotHead)
		err := <-ended
		if took := time.Since(started); err == nil || !strings.Contains(err.Error(), "does not take it") || took != 7*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestSnapshotPanic does not look like a whole backup either.
func TestSnapshotPanic(t *testing.T) {
	h := newRESTTest(gives(func(context.Context, int) error { panic("a bug") }, "one"))
	defer func() {
		if cause := recover(); cause != http.ErrAbortHandler {
			t.Errorf("%v", cause)
		}
		if h.inFlight.Load() != 0 {
			t.Errorf("%d in flight", h.inFlight.Load())
		}
	}()
	send(t, h, validCalls["saveSnapshot"])
	t.Error("no panic")
}
