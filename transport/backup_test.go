package transport

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dems"
	"dems/transport/rpc"

	"google.golang.org/protobuf/proto"
)

var testOrigin = dems.Origin{Index: 812, Digest: dems.Digest{1, 15: 2}}

// sends returns a handler that sends parts, the first of them what the backup is of.
func sends(parts ...dems.BackupPart) func(context.Context, uint64, func(dems.BackupPart) error) error {
	return func(_ context.Context, _ uint64, send func(dems.BackupPart) error) error {
		for _, part := range parts {
			if err := send(part); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestBackupArrives(t *testing.T) {
	const pieces = 300
	piece := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	_, replica := pair(t, &stub{backup: func(_ context.Context, minIndex uint64, send func(dems.BackupPart) error) error {
		err := send(dems.BackupPart{Origin: dems.Origin{Index: minIndex, Digest: testOrigin.Digest}})
		reused := make([]byte, len(piece))
		for range pieces {
			copy(reused, piece)
			err = errors.Join(err, send(dems.BackupPart{Data: reused}))
			clear(reused)
		}
		return err
	}})
	var got dems.Origin
	received := 0
	err := replica.Backup(t.Context(), 812, func(part dems.BackupPart) error {
		switch {
		case got == dems.Origin{}:
			got = part.Origin
		case !bytes.Equal(part.Data, piece):
			return errors.New("another piece")
		default:
			received++
		}
		return nil
	})
	if err != nil || got != testOrigin || received != pieces {
		t.Errorf("%v, %d pieces: %v", got, received, err)
	}
}

func TestBackupThatTheNodeEnds(t *testing.T) {
	head := dems.BackupPart{Origin: testOrigin}
	for name, test := range map[string]struct {
		parts []dems.BackupPart
		err   error
		kind  dems.ReplicaErrorKind
		text  string
	}{
		"before it begins":  {nil, &dems.ReplicaError{Kind: dems.NotReady, Err: errors.New("city logs")}, dems.NotReady, "city logs"},
		"without a word":    {nil, nil, dems.UnknownOutcome, "nothing of a backup"},
		"in the middle":     {[]dems.BackupPart{head, {Data: []byte("x")}}, errors.New("a page is gone"), dems.UnknownOutcome, "a page is gone"},
		"data first":        {[]dems.BackupPart{{Data: []byte("x")}}, nil, dems.UnknownOutcome, "not in its place"},
		"an index of 0":     {[]dems.BackupPart{{Origin: dems.Origin{Digest: testOrigin.Digest}}}, nil, dems.UnknownOutcome, "not in its place"},
		"an empty piece":    {[]dems.BackupPart{head, {}}, nil, dems.UnknownOutcome, "not in its place"},
		"a piece too large": {[]dems.BackupPart{head, {Data: make([]byte, maxPartBytes+1)}}, nil, dems.UnknownOutcome, "too large"},
	} {
		_, replica := pair(t, &stub{backup: func(ctx context.Context, minIndex uint64, send func(dems.BackupPart) error) error {
			return errors.Join(sends(test.parts...)(ctx, minIndex, send), test.err)
		}})
		err := replica.Backup(t.Context(), 0, func(dems.BackupPart) error { return nil })
		if got := kind(t, err, test.kind); !strings.Contains(got.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBackupReaderLeaves ends the handler when the reader has had enough, or its context ends.
func TestBackupReaderLeaves(t *testing.T) {
	for _, how := range []string{"error", "context"} {
		ended := make(chan error, 1)
		_, replica := pair(t, &stub{backup: func(_ context.Context, _ uint64, send func(dems.BackupPart) error) error {
			err := send(dems.BackupPart{Origin: testOrigin})
			for err == nil {
				err = send(dems.BackupPart{Data: make([]byte, 64<<10)})
			}
			ended <- err
			return err
		}})
		ctx, cancel := context.WithCancel(t.Context())
		err := replica.Backup(ctx, 0, func(part dems.BackupPart) error {
			if len(part.Data) > 0 && how == "error" {
				return errEnough
			}
			if len(part.Data) > 0 {
				cancel()
			}
			return nil
		})
		if how == "error" && !errors.Is(err, errEnough) || how == "context" && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", how, err)
		}
		<-ended
		cancel()
	}
}

// TestBackupThatNobodyReads does not keep the node waiting for long.
func TestBackupThatNobodyReads(t *testing.T) {
	node := start(t, "n1", Config{PartTimeout: 50 * time.Millisecond})
	ended := make(chan struct{})
	node.Serve(&stub{backup: func(_ context.Context, _ uint64, send func(dems.BackupPart) error) error {
		err := send(dems.BackupPart{Origin: testOrigin})
		for err == nil {
			err = send(dems.BackupPart{Data: make([]byte, 256<<10)})
		}
		close(ended)
		return err
	}})
	replica := start(t, "fe1", Config{}).Replica(node.Addr().String())
	err := replica.Backup(t.Context(), 0, func(part dems.BackupPart) error {
		if len(part.Data) > 0 {
			<-ended // reads no further before the node has given up
		}
		return nil
	})
	kind(t, err, dems.UnknownOutcome)
}

// FuzzBackupPart gives clients pieces that no node sends.
func FuzzBackupPart(f *testing.F) {
	f.Add(marshal(f, &rpc.BackupReply{Index: 1, Digest: make([]byte, 16)}), false)
	f.Add(marshal(f, &rpc.BackupReply{Data: []byte("x")}), true)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, data []byte, begun bool) {
		message := new(rpc.BackupReply)
		if proto.Unmarshal(data, message) != nil {
			return
		}
		part, err := decodePart(message, begun)
		if err != nil {
			isUnknown(t, err)
			return
		}
		if begun == (len(part.Data) == 0) || begun == (part.Origin.Index > 0) {
			t.Errorf("begun %t: %+v", begun, part)
		}
	})
}
