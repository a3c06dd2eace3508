package freshtoken

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Import takes over the session that a program has kept in a plaintext file,
// and removes the file. It understands, by what is in them, an oauth2.Token as
// JSON or the answer of a token endpoint, the token.json of Google's
// quickstarts for Go and Python, and gcloud's application_default_credentials.json.
// A program may call it at every start: without the file, the error matches
// fs.ErrNotExist, and no other error does.
//
// The file is removed only after the session has been saved and read back from
// Config.Store, which is required, and only if it has not changed meanwhile.
// Whatever fails before leaves it as it is. Its client's secret is not used.
//
// If the session in the store began with the file's token, it stays as it is, and
// the file is removed: an earlier Import was interrupted. Other errors: ErrSessionExists,
// if there is another session: log out first, or remove the file.
// ErrNoSession and ErrSessionEnded, if the session that began with this token
// is over: remove the file, and log in. ErrMismatch, if the file names another
// client_id or token_uri than Config.OAuth2. ErrBadToken, if there is no token
// in the file that could be used, or if it is no regular file or larger than a
// mebibyte. ErrNotRemoved, if only the removal failed: the session is in use,
// and somebody has to remove the file. ErrStore, ErrLocked, ErrClosed and the
// context's as for SetToken, but no session begins. If ctx ends first, Import
// may still take effect.
func (s *Source) Import(ctx context.Context, path string) error {
	if s.cfg.Store == nil {
		return public(errors.New("Import needs Config.Store: without one, the session would be lost with the program"))
	}
	if path == "" {
		return public(errors.New("Import needs the path of a file"))
	}
	if err := lookAtTokenFile(path); err != nil { // most starts find none, and need no lock
		return public(importing(path, err))
	}
	outcome := make(chan error, 1)
	err := s.detached(ctx, func() error { outcome <- s.importFile(path); return nil })
	select {
	case err = <-outcome:
		return public(importing(path, err))
	default:
		return public(masked(err)) // the cause of ctx may be the absence of another file
	}
}

func importing(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("importing %s: %w", path, err)
}

// importFile is Import, in its turn. Whoever imports the same file at the same
// time waits for the lock, and then finds no file.
func (s *Source) importFile(path string) error {
	unlock, err := s.acquire(lockTime)
	if err != nil {
		return masked(err)
	}
	defer s.release(unlock)
	if unlock == nil { // Config.InsecureUnsaved
		return wrap(ErrStore, "the session cannot be locked")
	}
	f, err := readTokenFile(path)
	if err != nil {
		return err
	}
	fresh, err := s.imported(f)
	if err != nil {
		return err
	}
	r, err := s.makeRoom(fresh)
	if err == nil && r == nil {
		r, err = fresh, s.save(fresh, personTime)
	}
	if err == nil {
		err = s.readBack(r)
	}
	if err != nil {
		return masked(err)
	}
	if r == fresh {
		s.started(fresh, nil)
	} else {
		s.show(nil)
	}
	return f.remove()
}

// imported checks whether the file's session is one of this client, and returns
// the record that it begins with.
func (s *Source) imported(f *tokenFile) (*record, error) {
	if f.clientID != "" && f.clientID != s.cfg.OAuth2.ClientID {
		return nil, wrap(ErrMismatch, "the file's client_id is not that of Config.OAuth2; nothing was changed")
	}
	if f.tokenURI != "" && f.tokenURI != s.cfg.OAuth2.Endpoint.TokenURL {
		return nil, wrap(ErrMismatch, "the file's token_uri is not Config.OAuth2.Endpoint.TokenURL; nothing was changed")
	}
	g, issued, err := s.takeLogin(f.token)
	if err != nil {
		return nil, err
	}
	return s.newSession(g, issued), nil
}

// makeRoom finds out whether the new session may be stored. The result is the
// session that is there instead, stored, if it has come from the same token.
func (s *Source) makeRoom(fresh *record) (known *record, err error) {
	t := &s.inTurn
	stored, err := s.load(personTime)
	if t.unread = err; err != nil {
		return nil, err
	}
	if reconcile(t.session, !t.unsaved, stored) != keep || stored != nil && stored.ID != t.session.ID && stored.isFrom(fresh) {
		s.adopt(stored)
	}
	switch r := t.session; {
	case r == nil, r.Ended != nil && r.Origin != fresh.Origin:
		return nil, nil
	case r.loggedOut(): // or a file that cannot be removed would undo every Logout
		return nil, wrap(ErrNoSession, "the session that began with this token was logged out at %s: remove the file, and log in", r.Ended.At.Format(time.RFC3339))
	case r.Ended != nil:
		return nil, wrap(ErrSessionEnded, "the server has refused the session that began with this token: remove the file")
	case !r.isFrom(fresh) && (fresh.RefreshToken == "" || fresh.RefreshToken != r.RefreshToken):
		return nil, wrap(ErrSessionExists, "log out first, or remove the file; nothing was changed")
	default:
		if t.unsaved || !stored.sameTokens(r) {
			err = s.put(r)
		}
		return r, err
	}
}

// readBack makes sure that the store has r.
func (s *Source) readBack(r *record) error {
	stored, err := s.load(personTime)
	if err == nil && !stored.sameTokens(r) {
		err = wrap(ErrStore, "it does not return what was saved")
	}
	return err
}

// masked keeps an error of something else from being taken for the absence of the
// file. It matches all else that it matched.
func masked(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return maskedError{err}
	}
	return err
}

type maskedError struct{ error }

func (m maskedError) Is(target error) bool {
	return target != fs.ErrNotExist && errors.Is(m.error, target)
}
