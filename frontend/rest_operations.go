package frontend

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"dems"
)

// operate checks the syntax of an operation, has the cluster do it, and makes its answer the response.
func (h *restHandler) operate(ctx context.Context, x *exchange, request dems.Request) error {
	cities, known := h.cluster.Cities(ctx)
	if !known {
		return &dems.Error{Code: dems.Unavailable}
	}
	command, err := cities.Parse(request)
	if err != nil {
		return err
	}
	command.Time = x.now()
	var reply Reply
	if command.Op.Mutates() {
		reply, err = h.cluster.Do(ctx, command)
	} else {
		reply, err = h.cluster.Read(ctx, command)
	}
	if err != nil {
		return outOfTime(err, command.Op.Mutates())
	}
	x.reply(command.Op, &reply)
	return nil
}

// outOfTime gives an error that says only that the time is up, or the client gone, the code that this means: a mutating
// command may have been applied.
func outOfTime(err error, mutates bool) error {
	if _, coded := errors.AsType[*dems.Error](err); coded {
		return err
	}
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	if mutates {
		return &dems.Error{Code: dems.Indeterminate}
	}
	return &dems.Error{Code: dems.Unavailable}
}

// reply makes an answer of the cluster the response.
func (x *exchange) reply(op dems.Op, reply *Reply) {
	result := &reply.Result
	x.voted(reply)
	if result.Replayed {
		x.header["Idempotency-Replayed"] = replayedTrue
	}
	if result.Code != dems.OK {
		x.problem(result.Code, "", reply.Sequence)
		return
	}
	x.header["Content-Type"] = jsonContentType
	if !op.Mutates() {
		x.header["Cache-Control"] = noStore
	}
	if address := location(op, result); address != "" {
		x.header["Location"] = []string{address}
		x.status = http.StatusCreated
	}
	x.output = appendOutcome(x.output, op, result)
}

// voted sets the headers of an answer that nodes voted on.
func (x *exchange) voted(reply *Reply) {
	text := make([]byte, 0, 32)
	if reply.Sequence > 0 {
		text = strconv.AppendUint(text, reply.Sequence, 10)
		x.header["Dems-Sequence"] = []string{string(text)}
	}
	if reply.Asked > 0 {
		text = strconv.AppendInt(text[:0], int64(reply.Agreeing), 10)
		text = append(text, '/')
		text = strconv.AppendInt(text, int64(reply.Asked), 10)
		x.header["Dems-Votes"] = []string{string(text)}
	}
}
