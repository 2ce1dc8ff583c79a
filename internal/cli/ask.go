package cli

import "context"

// agree asks for a yes before something that cannot be taken back, or that
// decides where credentials go. yes is the command's --yes. Nobody to ask is an
// error that names it.
func (ws *workspace) agree(ctx context.Context, question string, yes bool) error {
	if yes {
		return nil
	}
	if !ws.person() {
		return failf(exitUsage, "look at what is said above, and add --yes", "nobody can be asked here: %s", question)
	}
	ok, err := ws.ask(ctx, question, false)
	if err != nil {
		return err
	}
	if !ok {
		return failf(exitFailure, "", "nothing was changed")
	}
	return nil
}
