package frontend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

var (
	streamContentType = []string{"application/octet-stream"}
	// errHeadOnly ends a backup of which only the head was asked for.
	errHeadOnly = errors.New("only the head was asked for")
)

// snapshot serves a backup while it comes. Who gets it knows by its end whether it is whole: where something fails, the connection
// is cut.
func (h *restHandler) snapshot(ctx context.Context, x *exchange) error {
	out := &stream{exchange: x, controller: http.NewResponseController(x.writer), timeout: h.config.WriteTimeout}
	err := h.cluster.Backup(ctx, func(backup Backup) (io.Writer, error) {
		x.header["Content-Type"] = streamContentType
		x.header["Cache-Control"] = noStore
		x.header["Content-Disposition"] = []string{fmt.Sprintf(`attachment; filename="dems-%d.backup"`, backup.Origin.Index)}
		x.header["Dems-Sequence"] = []string{strconv.FormatUint(backup.Origin.Index, 10)}
		x.header["Dems-Digest"] = []string{backup.Origin.Digest.String()}
		x.header["Dems-Votes"] = []string{fmt.Sprintf("%d/%d", backup.Agreeing, backup.Asked)}
		x.begun = true
		x.writer.WriteHeader(http.StatusOK)
		if x.request.Method == http.MethodHead {
			return nil, errHeadOnly
		}
		return out, nil
	})
	switch {
	case err == nil || errors.Is(err, errHeadOnly):
		return nil
	case x.begun:
		h.config.Logger.Warn("a backup was not sent to its end", "bytes", x.sent, "remote", x.request.RemoteAddr, "error", err)
		panic(http.ErrAbortHandler)
	}
	return outOfTime(err, false)
}

// stream writes a response while it is being made. Each piece has its own time to be read.
type stream struct {
	exchange   *exchange
	controller *http.ResponseController
	timeout    time.Duration
}

// Write implements io.Writer.
func (s *stream) Write(data []byte) (int, error) {
	// Where deadlines cannot be set, nothing cuts the response off either.
	_ = s.controller.SetWriteDeadline(time.Now().Add(s.timeout))
	count, err := s.exchange.writer.Write(data)
	s.exchange.sent += int64(count)
	if err != nil {
		err = fmt.Errorf("the client does not take it: %w", err)
	}
	return count, err
}
