"""DetCon's loss: among the regions of all photos and both views, find the same region of the same photo."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.learning.distributed import gather, gather_constant, rank

Reading = Literal["code", "paper"]
Negatives = Literal["all", "process"]

# Instead of -inf: its exponential is 0 beside any logit, and a row with nothing else in it gets no NaN.
_NEVER = torch.finfo(torch.float32).min


def detcon_loss(
    pred1: Tensor, pred2: Tensor, target1: Tensor, target2: Tensor, ids1: Tensor, ids2: Tensor,
    temperature: float = 0.1, *, reading: Reading = "code", negatives: Negatives = "all",
) -> Tensor:  # fmt: skip
    """Contrastive detection of R regions drawn in each of two views of a photo, both directions summed.

    For region m of photo b in view 1, with s(x) = <p_bm, x> / (|p_bm| |x| temperature) of its prediction p:

        reading "code":    l_bm = 1/n ( log sum_{x in D} exp(s(x)) - 1/|P| sum_{t in P} s(t) ),   0 if P is empty
        reading "paper":   l_bm = sum_{t in P} -log( exp(s(t)) / (exp(s(t)) + sum_{x in N} exp(s(x))) )
        L = 1/(BR) sum_bm l_bm  +  the same with the views swapped

    P are the targets of this region in view 2 (several, where it was drawn several times), n how often it was drawn in
    view 1. D are the targets of all regions of all photos in both views, without those of this very region in view 1.
    N are those in view 2 alone, without P. An id below 0 stands for no region: it matches none, not even another one,
    its own row counts 0 and its latent is no negative. Photos where nothing matches still count in BR.

    Where code and paper differ. "code" is the released one (deepmind/detcon, utils/losses.py), which made the published
    numbers; a region counts once however often it is drawn, so that R copies of one global mask, with L of NT-Xent
    for one, give (L + 2 ln R)/R. "paper" is equations 1 and 3: a term for each matching pair, whose denominator
    holds no other positive, and negatives from the other view, to which each photo adds R ("16 negative samples").
    Equation 3 is a sum; it is divided by BR here, which does not depend on what was drawn. So processes average to
    the loss of all their photos, and where each region is drawn once, the readings differ in D and N alone. A region
    drawn n and n' times has n n' terms, as printed: up to R^2 times the weight that "code" gives it.

    Under several processes the gradient reaches the targets in all of them (`gather`); BYOL's way of training detaches
    them before. Memory: up to 9 times BR x WBR floats for the targets of W processes, 2.4 GB for 512 photos of 16
    regions in one process; 6 times in the reading "paper".

    Source: DetCon (arXiv:2103.10957), section 3.1. Its loss for DetCon_S was not released; with predictions that are
    the targets this is SimCLR's layout, and one global mask gives `nt_xent`.

    Args:
        pred1: (B, R, D) latents of view 1 that predict, any float type; B and R the same in each process.
        pred2: (B, R, D) those of view 2.
        target1: (B, R, D) latents of view 1 to be predicted; DetCon_S passes those of `pred1`.
        target2: (B, R, D) those of view 2.
        ids1: (B, R) integers, the region in its photo that each latent of view 1 belongs to, -1 for none.
        ids2: (B, R) those of view 2, numbered as in view 1.
        temperature: tau, above 0.
        reading: "code" or "paper", see above.
        negatives: those of "all" processes, or those of this "process" alone (table 5, row a).

    Returns:
        (), float32, or float64 of such latents; at least 0, exactly 0 without gradient where no region is in both
        views, 2 ln(2 W B R - 1) when all latents are alike and each region is drawn once ("code").

    Raises:
        ValueError: `reading` or `negatives` is none of these.
    """
    for name, value, known in (("reading", reading, Reading), ("negatives", negatives, Negatives)):
        if value not in get_args(known):
            raise ValueError(f"{name} '{value}' of a DetCon loss is not known. Choose {' or '.join(get_args(known))}.")
    with torch.autocast(pred1.device.type, enabled=False):  # half precision would round the logits to a few hundredths
        preds = _unit(torch.stack([pred1, pred2], dim=1)) / temperature  # (B, 2, R, D)
        targets = _unit(torch.stack([target1, target2], dim=1))  # (B, 2, R, D)
        ids = torch.stack([ids1, ids2], dim=1)  # (B, 2, R)
        first = 0
        if negatives == "all":
            targets, ids, first = gather(targets), gather_constant(ids), rank() * len(preds)
        return loss_of_rows(preds, targets, ids, first, reading)


def loss_of_rows(preds: Tensor, targets: Tensor, ids: Tensor, first: int, reading: Reading) -> Tensor:
    """`detcon_loss` of one process's photos among those of all, none of which has to be asked for.

    Args:
        preds: (B, 2, R, D) predictions of this process's photos in both views, of length 1 / temperature.
        targets: (W B, 2, R, D) targets of all photos, of length 1.
        ids: (W B, 2, R) their regions.
        first: where among all photos this process's begin.
    """
    direction = _code if reading == "code" else _paper
    own_ids = ids[first : first + len(preds)]  # (B, 2, R)
    return torch.stack([direction(preds, targets, ids, own_ids, first, view) for view in (0, 1)]).sum()


def same_region(ids: Tensor, other_ids: Tensor) -> Tensor:
    """Which draws are of the same region. ids: (B, R), other_ids: (B, R') of the same photos. (B, R, R') bool."""
    return (ids[:, :, None] == other_ids[:, None, :]) & (ids >= 0)[:, :, None]


def _code(preds: Tensor, targets: Tensor, ids: Tensor, own_ids: Tensor, first: int, view: int) -> Tensor:
    """The mean of l_bm over the rows of `view`."""
    same = same_region(own_ids[:, view], own_ids.flatten(1))  # (B, R, 2R), view 1 before view 2
    drawn_in = torch.arange(2, device=ids.device).repeat_interleave(ids.shape[2])  # (2R,)
    itself, positive = same & (drawn_in == view), same & (drawn_in != view)

    logits = _logits(preds[:, view], targets.flatten(1, 2), ids.flatten(1))  # (B, R, W B, 2R)
    _leave_out(logits, itself, first)
    log_shares = _own_photo(logits.flatten(2).log_softmax(dim=2).view_as(logits), first)  # (B, R, 2R)
    cross_entropy = -(positive * log_shares).sum(dim=2) / positive.sum(dim=2).clamp(min=1)  # (B, R)
    return (cross_entropy / itself.sum(dim=2).clamp(min=1)).mean()


def _paper(preds: Tensor, targets: Tensor, ids: Tensor, own_ids: Tensor, first: int, view: int) -> Tensor:
    """The mean of l_bm over the rows of `view`."""
    other = 1 - view
    positive = same_region(own_ids[:, view], own_ids[:, other])  # (B, R, R)
    logits = _logits(preds[:, view], targets[:, other], ids[:, other])  # (B, R, W B, R)
    scores = _own_photo(logits, first).clone()  # (B, R, R)
    _leave_out(logits, positive, first)
    negative = logits.flatten(2).logsumexp(dim=2)  # (B, R)
    terms = F.softplus(negative[:, :, None] - scores)  # -log(e^s / (e^s + e^n)) = log(1 + e^(n - s))
    return (positive * terms).sum(dim=2).mean()


def _logits(preds: Tensor, targets: Tensor, ids: Tensor) -> Tensor:
    """preds: (B, R, D), targets: (W B, M, D), ids: (W B, M). Returns (B, R, W B, M), without what is no region."""
    bias = torch.where(ids < 0, _NEVER, torch.zeros((), dtype=preds.dtype, device=ids.device))
    return F.linear(preds.flatten(0, 1), targets.flatten(0, 1), bias.flatten()).view(*preds.shape[:2], *ids.shape)


def _leave_out(logits: Tensor, which: Tensor, first: int) -> None:
    """Of the logits (B, M, W B, M') between regions of one photo those where `which` (B, M, M') says so, in place.

    Autograd need not know of it: the derivative of a sum of exponentials is 0 there by itself.
    """
    _own_photo(logits.detach(), first).masked_fill_(which, _NEVER)


def _own_photo(logits: Tensor, first: int) -> Tensor:
    """The part (B, M, M') of (B, M, W B, M') logits between regions of one photo; changing it changes them."""
    return logits.diagonal(offset=first, dim1=0, dim2=2).permute(2, 0, 1)


def _unit(x: Tensor) -> Tensor:
    """Of length 1, in float32 at least."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
