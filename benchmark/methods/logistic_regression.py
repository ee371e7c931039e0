"""Logistic regression on the frozen teacher's embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from benchmark.methods import METHODS, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network


@METHODS.register("logistic-regression")
class LogisticRegression(Method):
    """Fit logistic regression on the frozen teacher's embedding. A reference: nothing else is trained.

    loss = sum CE(W u_t + b, y) + ||W||^2 / (2 c), u_t = e_t / ||e_t||

    The student is the teacher. Its head is scikit-learn's multinomial logistic regression on the embeddings of the
    training images, without augmentation. This is the rule of Tian et al., ECCV 2020, arXiv 2003.11539, with its
    default c = 1.
    """

    family = "weights"
    equation = r"""
    \min_{W, b}\ \sum_{i} \mathrm{CE}\left(W u_t^i + b,\ y^i\right) + \frac{1}{2\,\texttt{c}} \lVert W \rVert_F^2,
    \qquad u_t = \frac{e_t}{\lVert e_t \rVert_2}
    """

    @dataclass(frozen=True)
    class Settings:
        """Inverse strength of the penalty."""

        c: Annotated[float, Gt(0)] = 1.0

    needs = Needs(start="teacher", trains="nothing", train_embeddings=True)
    tunable = ("c",)

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Replace the head by the fitted one; a class without an image is never predicted."""
        import numpy as np
        import torch
        from sklearn.linear_model import LogisticRegression as Regression

        from benchmark.backbones.network import NormalisedHead

        assert embeddings is not None
        unit = torch.nn.functional.normalize(embeddings, dim=1).cpu().double().numpy()
        present = labels.unique().tolist()
        head = NormalisedHead(student.head.in_features, len(self.labels.student)).to(embeddings.device)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.fill_(-1e4)
            head.bias[present] = 0.0
            if len(present) > 1:
                fitted = Regression(C=self.settings.c, max_iter=1000).fit(unit, labels.cpu().numpy())
                rows, biases = fitted.coef_, fitted.intercept_
                if len(present) == 2:  # one row tells two classes apart
                    rows, biases = np.concatenate([-rows, rows]) / 2, np.concatenate([-biases, biases]) / 2
                head.weight[present] = torch.from_numpy(rows).to(head.weight)
                head.bias[present] = torch.from_numpy(biases).to(head.bias)
        student.head = head
