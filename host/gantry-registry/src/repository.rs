//! A repository of a registry, over HTTP.

mod ask;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

use serde::Deserialize;
use ureq::Agent;
use ureq::http::{Method, StatusCode};

use self::ask::{Ask, Payload, Said, encoded};
use crate::account::Account;
use crate::digest::{Digest, Measured};
use crate::error::{Error, Result};
use crate::reference::Reference;

/// The kinds of manifests that a registry is asked for: the OCI's and Docker's, of images and of lists of them.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// No manifest is longer (OCI distribution specification: registries may refuse those above 4 MiB).
const LONGEST_MANIFEST: u64 = 4 << 20;

/// No configuration is longer.
const LONGEST_CONFIG: u64 = 8 << 20;

/// No repository has more tags, so that a registry that gives more and more of them ends somewhere.
const MOST_TAGS: usize = 10_000;

/// The word of a registry for what it does not do.
const UNSUPPORTED: &str = "UNSUPPORTED";

/// What is to be done with a repository, which tokens are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Images are read.
    Pull,
    /// Images are read and written.
    Push,
    /// Images are deleted.
    Delete,
}

impl Rights {
    /// As the scope of a token has them (Docker's token scope specification).
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "pull,delete",
        }
    }
}

/// A repository of a registry, spoken to.
pub struct Repository<'a> {
    agent: Agent,
    registry: &'a str,
    base: String,
    name: &'a str,
    scopes: Vec<String>,
    account: Option<&'a Account>,
    /// What the registry wants to be told, once it has said so.
    pass: RefCell<Option<String>>,
}

impl<'a> Repository<'a> {
    /// The repository of an image. `sources` are repositories of the same registry that layers are taken from.
    ///
    /// # Errors
    ///
    /// The certificate of the account is none.
    pub fn of(
        image: &'a Reference,
        account: &'a Account,
        rights: Rights,
        sources: &[&str],
    ) -> Result<Self> {
        let mut scopes = vec![format!("repository:{}:{}", image.repository, rights.actions())];
        let others = sources.iter().filter(|source| **source != image.repository);
        scopes.extend(others.map(|source| format!("repository:{source}:pull")));
        let is_ours = account.registry == image.registry;
        // Who vouches for our own registry says nothing about others.
        let nobody = Account { program: account.program, ..Account::default() };
        let agent = if is_ours { account.agent()? } else { nobody.agent()? };
        Ok(Self {
            agent,
            registry: &image.registry,
            base: image.base(),
            name: &image.repository,
            scopes,
            account: Some(account).filter(|account| is_ours && !account.user.is_empty()),
            pass: RefCell::new(None),
        })
    }

    /// The manifest of an image of the repository, with its kind; none when there is no such image.
    ///
    /// # Errors
    ///
    /// The registry refuses, does not answer, or gives another.
    pub fn manifest(&self, version: &str) -> Result<Option<(String, Vec<u8>)>> {
        self.insist(|| {
            let ask = Ask {
                what: format!("give the manifest of `{}:{version}`", self.name),
                method: Method::GET,
                url: self.url(&format!("manifests/{version}")),
                accept: ACCEPTED,
                payload: Payload::None,
            };
            let mut answer = self.ask(&ask)?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                _ => return Err(self.refusal(&ask, answer)),
            }
            let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
            let kind = kind.unwrap_or_default().to_owned();
            let bytes = self.bytes(&mut answer, LONGEST_MANIFEST)?;
            if let Some(digest) = Digest::parse(version)
                && Digest::of(&bytes) != digest
            {
                return Err(self.refuses(format!("gives another manifest than `{digest}`")));
            }
            Ok(Some((kind, bytes)))
        })
    }

    /// The configuration of an image.
    ///
    /// # Errors
    ///
    /// The registry refuses, does not answer, or gives another.
    pub fn config(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.insist(|| {
            let ask = self.blob(digest);
            let mut answer = self.ask(&ask)?;
            if answer.status() != StatusCode::OK {
                return Err(self.refusal(&ask, answer));
            }
            let bytes = self.bytes(&mut answer, LONGEST_CONFIG)?;
            if Digest::of(&bytes) != *digest {
                return Err(self.refuses(format!("gives another configuration than `{digest}`")));
            }
            Ok(bytes)
        })
    }

    fn blob(&self, digest: &Digest) -> Ask<'static> {
        Ask {
            what: format!("give `{digest}` of `{}`", self.name),
            method: Method::GET,
            url: self.url(&format!("blobs/{digest}")),
            accept: "",
            payload: Payload::None,
        }
    }

    /// Writes a layer into a file.
    ///
    /// # Errors
    ///
    /// The registry refuses, does not answer, or gives another.
    pub fn download(&self, digest: &Digest, size: u64, file: &mut File) -> Result<()> {
        let not_kept = |source| Error::Io { what: "cannot keep a layer", source };
        self.insist(|| {
            file.set_len(0).and_then(|()| file.rewind()).map_err(not_kept)?;
            let ask = self.blob(digest);
            let mut answer = self.ask(&ask)?;
            if answer.status() != StatusCode::OK {
                return Err(self.refusal(&ask, answer));
            }
            let mut body =
                Measured::new(answer.body_mut().as_reader().take(size.saturating_add(1)));
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = body.read(&mut buffer).map_err(|error| self.breaks(error))?;
                if read == 0 {
                    break;
                }
                let bytes = buffer.get(..read).unwrap_or_default();
                file.write_all(bytes).map_err(not_kept)?;
            }
            let (_, given, length) = body.finish();
            if given == *digest && length == size {
                return Ok(());
            }
            if length < size {
                return Err(self.breaks(format!("`{digest}` was cut after {length} bytes")));
            }
            Err(self.refuses(format!("gives another layer than `{digest}`")))
        })
    }

    /// Whether the repository has a layer or a configuration.
    ///
    /// # Errors
    ///
    /// The registry refuses, or does not answer.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        self.insist(|| {
            let mut ask = self.blob(digest);
            ask.method = Method::HEAD;
            let answer = self.ask(&ask)?;
            match answer.status() {
                StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(self.refusal(&ask, answer)),
            }
        })
    }

    /// Takes a layer from another repository of the registry, if the registry does that; where it does not, the layer can still be sent.
    ///
    /// # Errors
    ///
    /// The registry refuses, or does not answer.
    pub fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        self.insist(|| {
            let ask =
                self.begin(&format!("?mount={}&from={}", encoded(digest.as_str()), encoded(from)));
            let answer = self.ask(&ask)?;
            match answer.status() {
                StatusCode::CREATED => Ok(true),
                // It began an upload instead, which it forgets in time.
                StatusCode::ACCEPTED => Ok(false),
                status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    Ok(false)
                }
                _ => Err(self.refusal(&ask, answer)),
            }
        })
    }

    fn begin(&self, query: &str) -> Ask<'static> {
        Ask {
            what: format!("take something into `{}`", self.name),
            method: Method::POST,
            url: self.url(&format!("blobs/uploads/{query}")),
            accept: "",
            payload: Payload::None,
        }
    }

    /// Sends a layer.
    ///
    /// # Errors
    ///
    /// The registry refuses, or breaks the connection again and again.
    pub fn upload(&self, digest: &Digest, file: &File, size: u64) -> Result<()> {
        self.insist(|| self.put(digest, Payload::File(file, size)))
    }

    /// Sends a configuration.
    ///
    /// # Errors
    ///
    /// As [`Self::upload`].
    pub fn upload_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.insist(|| self.put(digest, Payload::Bytes("application/octet-stream", bytes)))
    }

    fn put(&self, digest: &Digest, payload: Payload<'_>) -> Result<()> {
        let begin = self.begin("");
        let answer = self.ask(&begin)?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(self.refusal(&begin, answer));
        }
        let mut url = self.place(&begin.url, &answer)?;
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&format!("digest={}", encoded(digest.as_str())));
        let ask = Ask {
            what: format!("take `{digest}` into `{}`", self.name),
            method: Method::PUT,
            url,
            accept: "",
            payload,
        };
        let answer = self.ask(&ask)?;
        if answer.status() == StatusCode::CREATED {
            Ok(())
        } else {
            Err(self.refusal(&ask, answer))
        }
    }

    /// Gives an image a name. From here on it is there.
    ///
    /// # Errors
    ///
    /// As [`Self::upload`].
    pub fn name(&self, tag: &str, kind: &str, manifest: &[u8]) -> Result<()> {
        self.insist(|| {
            let ask = Ask {
                what: format!("take the image `{}:{tag}`", self.name),
                method: Method::PUT,
                url: self.url(&format!("manifests/{tag}")),
                accept: "",
                payload: Payload::Bytes(kind, manifest),
            };
            let answer = self.ask(&ask)?;
            if answer.status() == StatusCode::CREATED {
                Ok(())
            } else {
                Err(self.refusal(&ask, answer))
            }
        })
    }

    /// All tags of the repository; none when there is no such repository.
    ///
    /// # Errors
    ///
    /// The registry refuses, does not answer, or has very many.
    pub fn tags(&self) -> Result<BTreeSet<String>> {
        let mut tags = BTreeSet::new();
        let mut next = Some(self.url("tags/list"));
        while let Some(url) = next {
            let before = tags.len();
            let (page, following) = self.insist(|| self.page_of_tags(&url))?;
            tags.extend(page);
            if tags.len() > MOST_TAGS {
                return Err(
                    self.refuses(format!("has more than {MOST_TAGS} tags of `{}`", self.name))
                );
            }
            // A page with nothing new leads in a circle.
            next = following.filter(|_| tags.len() > before);
        }
        Ok(tags)
    }

    /// Some tags, and where the next ones are.
    fn page_of_tags(&self, url: &str) -> Result<(Vec<String>, Option<String>)> {
        #[derive(Deserialize)]
        struct Page {
            // Some say null where there is none.
            tags: Option<Vec<String>>,
        }
        let ask = Ask {
            what: format!("list the tags of `{}`", self.name),
            method: Method::GET,
            url: url.to_owned(),
            accept: "application/json",
            payload: Payload::None,
        };
        let mut answer = self.ask(&ask)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok((Vec::new(), None)),
            _ => return Err(self.refusal(&ask, answer)),
        }
        let link = answer.headers().get("link").and_then(|link| link.to_str().ok());
        let following = link.and_then(next_page).map(|next| self.at(url, next)).transpose()?;
        let Page { tags } = self.json(&mut answer, &ask.what)?;
        Ok((tags.unwrap_or_default(), following))
    }

    /// The digest of the manifest that a tag leads to; none when there is no such image.
    ///
    /// # Errors
    ///
    /// The registry refuses, or does not answer.
    pub fn digest(&self, tag: &str) -> Result<Option<Digest>> {
        let told = self.insist(|| {
            let ask = Ask {
                what: format!("tell the digest of `{}:{tag}`", self.name),
                method: Method::HEAD,
                url: self.url(&format!("manifests/{tag}")),
                accept: ACCEPTED,
                payload: Payload::None,
            };
            let answer = self.ask(&ask)?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                _ => return Err(self.refusal(&ask, answer)),
            }
            let told = answer.headers().get("docker-content-digest");
            Ok(Some(told.and_then(|digest| Digest::parse(digest.to_str().ok()?))))
        })?;
        match told {
            None => Ok(None),
            Some(Some(digest)) => Ok(Some(digest)),
            // It need not say.
            Some(None) => Ok(self.manifest(tag)?.map(|(_, bytes)| Digest::of(&bytes))),
        }
    }

    /// Deletes an image by its digest, with all its names. What is not there is deleted.
    ///
    /// # Errors
    ///
    /// The registry refuses, or does not answer; or it deletes nothing at all, which is [`Error::NoDeletion`].
    pub fn delete(&self, digest: &Digest) -> Result<()> {
        self.insist(|| {
            let ask = Ask {
                what: format!("delete the image `{}@{digest}`", self.name),
                method: Method::DELETE,
                url: self.url(&format!("manifests/{digest}")),
                accept: "",
                payload: Payload::None,
            };
            let answer = self.ask(&ask)?;
            match answer.status() {
                // The specification has 202; some say that they have done it already.
                StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => return Ok(()),
                // Somebody was faster.
                StatusCode::NOT_FOUND => return Ok(()),
                _ => {}
            }
            let said = Said::read(answer);
            // Some are busy or ill, and say nothing of what they can do.
            let refused = said.status.is_client_error() && said.word("code") == Some(UNSUPPORTED);
            if said.status == StatusCode::METHOD_NOT_ALLOWED || refused {
                return Err(Error::NoDeletion { registry: self.registry.to_owned() });
            }
            Err(self.refused(&ask, &said))
        })
    }
}

/// Where the next page is (RFC 8288): the target of a link whose relation is `next`.
fn next_page(links: &str) -> Option<&str> {
    links.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let mut parameters = parameters.split(';').map(str::trim);
        parameters.any(|one| matches!(one, "rel=next" | "rel=\"next\"")).then_some(target)
    })
}

#[cfg(test)]
mod tests;
