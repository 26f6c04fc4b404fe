"""HTTP/1.1 on sockets: the client's side and the upstream's side, parsed by llhttp. It knows nothing of what is relayed."""
