//! Who may do what. Every verb asks here; nothing else decides.
//!
//! What is another project's does not exist for the asker (`NotFound`), unless it was shown to it: a public or
//! community image may be seen and not changed (`Forbidden`).

use model::identity::{Principal, Role};
use model::images::{Image, ImageState, Visibility};
use model::{ImageId, ProjectId};

use crate::error::{Error, ErrorKind, Result};

/// Fails unless the principal has `role`; `doing` completes "to ... takes the role".
pub(crate) fn require(who: &Principal, role: Role, doing: &str) -> Result<()> {
    if who.has(role) {
        return Ok(());
    }
    let message = format!("to {doing} takes the role `{role}` in project `{}`", who.project.name);
    Err(Error::new(ErrorKind::Forbidden, message).with_hint("ask an administrator of the project for the role"))
}

/// Returns whether the principal acts for `project`, or is an administrator.
pub(crate) fn owns(who: &Principal, project: ProjectId) -> bool {
    who.project.id == project || who.has(Role::Admin)
}

/// Returns the image if the principal may see it.
pub(crate) fn see_image(who: &Principal, id: ImageId, image: Option<Image>) -> Result<Image> {
    let shown = |image: &Image| matches!(image.visibility, Visibility::Public | Visibility::Community);
    image.filter(|image| owns(who, image.project) || shown(image)).ok_or_else(|| no_image(id))
}

/// Returns the image if the principal may change it.
pub(crate) fn change_image(who: &Principal, id: ImageId, image: Option<Image>) -> Result<Image> {
    let image = see_image(who, id, image)?;
    if !owns(who, image.project) {
        return Err(Error::new(
            ErrorKind::Forbidden,
            format!("image {id} belongs to another project and can only be used"),
        ));
    }
    require(who, Role::Member, "change images")?;
    Ok(image)
}

/// Returns the image if the principal may read its bytes.
pub(crate) fn read_image(who: &Principal, id: ImageId, image: Option<Image>) -> Result<Image> {
    let image = see_image(who, id, image)?;
    if image.state == ImageState::Deactivated && !who.has(Role::Admin) {
        let message = format!("image {id} is deactivated: its bytes are closed until an administrator reactivates it");
        return Err(Error::new(ErrorKind::Forbidden, message));
    }
    Ok(image)
}

/// Fails unless the principal may give an image this visibility.
pub(crate) fn set_visibility(who: &Principal, visibility: Visibility) -> Result<()> {
    match visibility {
        Visibility::Public => require(who, Role::Admin, "make an image public"),
        Visibility::Community | Visibility::Shared | Visibility::Private => Ok(()),
    }
}

/// The one sentence for an image that is absent or hidden.
pub(crate) fn no_image(id: ImageId) -> Error {
    Error::not_found("image", format_args!("{id}"))
}
