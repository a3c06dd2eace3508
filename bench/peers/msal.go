package peers

import (
	"context"
	"errors"
	"path/filepath"

	extensions "github.com/AzureAD/microsoft-authentication-extensions-for-go/cache"
	"github.com/AzureAD/microsoft-authentication-extensions-for-go/cache/accessor/file"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"
)

// MSAL is Microsoft's library for public clients with the cache of its
// extensions, in a plain file as on systems without a keyring. It has no
// transport.
//
// It talks to servers of one kind only. See entra for how it gets to see one.
//
// It replaces a token five minutes before expiry and lets nobody change that;
// one that lives for five minutes would be replaced at every call. Where the
// Setup has a lead, the library is told that tokens live for so much longer that
// it replaces them in time.
var MSAL = Peer{Name: "MSAL + extensions cache", Module: "github.com/AzureAD/microsoft-authentication-library-for-go", Stores: true, Open: openMSAL}

var msalScopes = []string{"api"}

func openMSAL(s Setup) (*Session, error) {
	dir, remove, err := workDir(s)
	if err != nil {
		return nil, err
	}
	client, err := newMSAL(s, dir)
	if err != nil {
		remove()
		return nil, err
	}
	account, err := msalAccount(client, s)
	if err != nil {
		remove()
		return nil, err
	}
	return &Session{
		Token: func(ctx context.Context) (string, error) {
			res, err := client.AcquireTokenSilent(ctx, msalScopes, public.WithSilentAccount(account))
			return res.AccessToken, err
		},
		Close: remove,
	}, nil
}

func newMSAL(s Setup, dir string) (public.Client, error) {
	store, err := file.New(filepath.Join(dir, "msal.json"))
	if err != nil {
		return public.Client{}, err
	}
	cache, err := extensions.New(store, filepath.Join(dir, "msal.timestamp"))
	if err != nil {
		return public.Client{}, err
	}
	return public.New(s.OAuth2.ClientID, public.WithAuthority(entraAuthority), public.WithInstanceDiscovery(false),
		public.WithHTTPClient(entra{s}), public.WithCache(cache))
}

// msalAccount logs in, if there is a login, or finds the account of an earlier
// one in the cache.
func msalAccount(client public.Client, s Setup) (public.Account, error) {
	ctx := context.Background()
	if s.Token != nil {
		res, err := client.AcquireTokenByAuthCode(ctx, "code", "http://127.0.0.1/callback", msalScopes)
		return res.Account, err
	}
	accounts, err := client.Accounts(ctx)
	if err == nil && len(accounts) == 0 {
		err = errors.New("peers: the cache has no account: give Setup.Token the token of a login")
	}
	if err != nil {
		return public.Account{}, err
	}
	return accounts[0], nil
}
